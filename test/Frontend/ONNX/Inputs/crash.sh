#!/bin/sh
# Stands for a compiler that dies.
kill -SEGV $$
