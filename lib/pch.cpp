// The home of the precompiled header: see include/dlc/pch.h.
