(* Reads a dump of a fused graph (README.md) and runs the extracted checker on it.
   This file only parses: words become numbers here, every decision is Coq's. *)
open Fusion_core

exception Bad of int * string

let rec positive n = if n = 1 then XH else if n land 1 = 1 then XI (positive (n lsr 1)) else XO (positive (n lsr 1))
let rec number = function XH -> 1 | XO p -> 2 * number p | XI p -> (2 * number p) + 1

(* A table that gives every new word the next number. *)
type names = { numbers : (string, positive) Hashtbl.t; words : (int, string) Hashtbl.t }

let names () = { numbers = Hashtbl.create 1024; words = Hashtbl.create 1024 }

let intern t word =
  match Hashtbl.find_opt t.numbers word with
  | Some p -> p
  | None ->
      let n = Hashtbl.length t.numbers + 1 in
      let p = positive n in
      Hashtbl.add t.numbers word p;
      Hashtbl.add t.words n word;
      p

let word t p = try Hashtbl.find t.words (number p) with Not_found -> "?"

type dump = {
  mutable inputs : positive list;
  mutable nodes : (positive * (positive * positive list)) list;
  mutable opaque : (positive * positive) list;
  (* groups, each its members and what it keeps; all lists are reversed while reading *)
  mutable groups : (((positive * (positive * positive list)) * positive) list * positive list option) list;
  mutable outputs : positive list;
  mutable ended : bool;
}

let ids = names ()
let keys = names ()
let operations = names ()

(* What stands before the last '#' of a key names the operation. *)
let operation key = match String.rindex_opt key '#' with Some i -> String.sub key 0 i | None -> key

let node line = function
  | id :: key :: "reads" :: reads -> (intern ids id, (intern keys key, List.map (intern ids) reads))
  | _ -> raise (Bad (line, "expected ID KEY reads ID ..."))

let in_group line d change =
  match d.groups with
  | group :: rest -> d.groups <- change group :: rest
  | [] -> raise (Bad (line, "before the first group"))

let read_line d line text =
  let text = match String.index_opt text '#' with
    | Some i when i = 0 || text.[i - 1] = ' ' || text.[i - 1] = '\t' -> String.sub text 0 i
    | _ -> text in
  let words = List.filter (( <> ) "") (String.split_on_char ' ' (String.map (fun c -> if c = '\t' || c = '\r' then ' ' else c) text)) in
  match words with
  | [] -> ()
  | "input" :: l -> d.inputs <- List.rev_append (List.map (intern ids) l) d.inputs
  | "node" :: l -> d.nodes <- node line l :: d.nodes
  | "opaque" :: (_ :: key :: _ as l) ->
      let n = node line l in
      d.nodes <- n :: d.nodes;
      d.opaque <- (fst n, intern operations (operation key)) :: d.opaque
  | [ "group"; _ ] -> d.groups <- ([], None) :: d.groups
  | "member" :: l ->
      let n = node line l in
      in_group line d (fun (members, keep) -> ((n, fst n) :: members, keep))
  | "clone" :: id :: "of" :: original :: l ->
      let n = node line (id :: l) in
      in_group line d (fun (members, keep) -> ((n, intern ids original) :: members, keep))
  | "keep" :: l ->
      in_group line d (fun (members, keep) ->
          if keep <> None then raise (Bad (line, "a second keep in one group"));
          (members, Some (List.map (intern ids) l)))
  | "output" :: l -> d.outputs <- List.rev_append (List.map (intern ids) l) d.outputs
  | [ "end" ] -> d.ended <- true
  | w :: _ -> raise (Bad (line, "unexpected: " ^ w))

let read_file name =
  let d = { inputs = []; nodes = []; opaque = []; groups = []; outputs = []; ended = false } in
  let file = if name = "-" then stdin else open_in name in
  let line = ref 0 in
  let next () = incr line; input_line file in
  (try
     if String.trim (next ()) <> "dlc-groups 1" then raise (Bad (1, "the first line is not 'dlc-groups 1'"));
     while not d.ended do read_line d !line (next ()) done
   with End_of_file -> raise (Bad (!line, "the text ends before 'end'")));
  if name <> "-" then close_in file;
  d

let condition = function
  | C_SSA -> "C-SSA" | C_CONVEX -> "C-CONVEX" | C_SAME_NODES -> "C-SAME-NODES" | C_PURE -> "C-PURE" | C_LIVE -> "C-LIVE"

let check name =
  let d = read_file name in
  let groups = List.rev_map (fun (members, keep) ->
      (List.rev members, match keep with Some l -> l | None -> [])) d.groups in
  match check_fusion (List.rev d.inputs) (List.rev d.nodes) d.opaque groups (List.rev d.outputs) with
  | None -> Printf.printf "ACCEPT %s\n%!" name; 0
  | Some (c, at) -> Printf.printf "REFUSE %s %s %s\n%!" name (condition c) (word ids at); 1

let () =
  let files = List.tl (Array.to_list Sys.argv) in
  if files = [] then (prerr_endline "usage: fusion-check FILE ...   (- is standard input)"; exit 2);
  let one name =
    try check name with
    | Bad (line, what) -> Printf.eprintf "%s:%d: %s\n%!" name line what; 2
    | Sys_error what -> Printf.eprintf "%s\n%!" what; 2 in
  exit (List.fold_left (fun worst name -> max worst (one name)) 0 files)
