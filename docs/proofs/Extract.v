(** Extraction of the checkers to OCaml.  Lists, options, pairs and booleans become
    OCaml's own; numbers keep Coq's binary form, so that nothing about machine
    integers has to be trusted. *)
Require Import Extraction ExtrOcamlBasic.
Require Import Check.
Extraction Language OCaml.
Set Warnings "-extraction-default-directory".
Extraction "fusion_core.ml" check_fusion.
