(** Extraction of the checkers to OCaml.  Lists, options, pairs and booleans become
    OCaml's own; numbers keep Coq's binary form, so that nothing about machine
    integers has to be trusted. *)
Require Import Extraction ExtrOcamlBasic.
Require Import Check Bodies.
Extraction Language OCaml.
(* The libraries of maps prove some decisions opaquely; extraction reads through that. *)
Set Warnings "-extraction-opaque-accessed".
Extraction "fusion_core.ml" check_fusion check_bodies.
