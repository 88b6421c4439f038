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

let rec nat n = if n = 0 then O else S (nat (n - 1))
let integer n = if n = 0 then Z0 else if n > 0 then Zpos (positive n) else Zneg (positive (-n))

(* Expressions: words and lists. *)
type sexp = Word of string | List of sexp list

let sexps line text =
  let spaced = Buffer.create (2 * String.length text) in
  String.iter (fun c -> if c = '(' || c = ')' then (Buffer.add_char spaced ' '; Buffer.add_char spaced c; Buffer.add_char spaced ' ')
                else Buffer.add_char spaced c) text;
  let rec many tokens = match tokens with
    | [] -> ([], [])
    | ")" :: _ -> ([], tokens)
    | "(" :: rest -> (
        match many rest with
        | inner, ")" :: rest -> let others, rest = many rest in (List inner :: others, rest)
        | _ -> raise (Bad (line, "a bracket is not closed")))
    | w :: rest -> let others, rest = many rest in (Word w :: others, rest) in
  match many (List.filter (( <> ) "") (String.split_on_char ' ' (Buffer.contents spaced))) with
  | all, [] -> all
  | _ -> raise (Bad (line, "a bracket too many"))

type kernel = {
  name : string;
  rows : int;
  mutable original : (positive * (z list * sx)) list;
  mutable fused : (positive * (z list * sx)) list;
  mutable results : (positive * positive) list;
}

type dump = {
  mutable kernels : kernel list;
  mutable inputs : positive list;
  mutable nodes : (positive * (positive * positive list)) list;
  mutable opaque : (positive * positive) list;
  (* groups, each its members and what it keeps; all lists are reversed while reading *)
  mutable groups : (((positive * (positive * positive list)) * positive) list * positive list option) list;
  mutable outputs : positive list;
  mutable returns : positive list option; (* of the fused graph; the outputs where it is not said *)
  mutable ended : bool;
}

let ids = names ()
let keys = names ()
let operations = names ()

let functions = names ()

let int_of line w = match int_of_string_opt w with Some n -> n | None -> raise (Bad (line, "no number: " ^ w))

(* A scope lists the names of coordinates, innermost first; a name's position is its number. *)
let rec index line scope = function
  | Word w -> (
      let rec find i = function [] -> None | n :: r -> if n = w then Some i else find (i + 1) r in
      match find 0 scope with Some i -> D (nat i) | None -> C (integer (int_of line w)))
  | List (Word "+" :: first :: rest) ->
      List.fold_left (fun sum e -> Add (sum, index line scope e)) (index line scope first) rest
  | List [ Word "*"; e; Word n ] -> Mul (index line scope e, integer (int_of line n))
  | List [ Word "div"; e; Word n ] -> Div (index line scope e, integer (int_of line n))
  | List [ Word "mod"; e; Word n ] -> Mod (index line scope e, integer (int_of line n))
  | List _ -> raise (Bad (line, "no index expression"))

let axes line = function
  | List l -> List.split (List.map (function
      | List [ Word name; Word n ] -> (name, integer (int_of line n))
      | _ -> raise (Bad (line, "expected (NAME SIZE)"))) l)
  | Word _ -> raise (Bad (line, "expected ((NAME SIZE) ...)"))

let condition_of line scope = function
  | List [ Word ">="; e ] -> (true, index line scope e)
  | List [ Word "=="; e ] -> (false, index line scope e)
  | _ -> raise (Bad (line, "expected (>= IX) or (== IX)"))

let rec expression line scope = function
  | List (Word "load" :: Word t :: indices) -> Ld (intern ids t, List.map (index line scope) indices)
  | List [ Word "guard"; List conditions; a; b ] ->
      Gd (List.map (condition_of line scope) conditions, expression line scope a, expression line scope b)
  | List [ Word "fold"; Word op; Word init; over; body ] ->
      let names, sizes = axes line over in
      Fd (intern functions op, intern functions init, sizes, expression line (names @ scope) body)
  | List [ Word "at"; List values; List names; body ] ->
      let bound = List.map (function Word w -> w | List _ -> raise (Bad (line, "expected a name"))) names in
      if List.length bound <> List.length values then raise (Bad (line, "at binds as many names as it has values"));
      Ga (List.map (expression line scope) values, expression line (bound @ scope) body)
  | List (Word ("load" | "guard" | "fold" | "at") :: _) -> raise (Bad (line, "malformed expression"))
  | List (Word f :: arguments) -> Fn (intern functions f, List.map (expression line scope) arguments)
  | Word w -> raise (Bad (line, "no expression: " ^ w))
  | List _ -> raise (Bad (line, "no expression"))

let stage line rest = match sexps line rest with
  | [ Word t; over; body ] ->
      let names, sizes = axes line over in
      (intern ids t, (sizes, expression line names body))
  | _ -> raise (Bad (line, "expected ID ((NAME SIZE) ...) EXPR"))

let in_kernel line d change = match d.kernels with
  | kernel :: _ -> change kernel
  | [] -> raise (Bad (line, "before the first kernel"))

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
  | [ "kernel"; name; "rows"; n ] -> d.kernels <- { name; rows = int_of line n; original = []; fused = []; results = [] } :: d.kernels
  | "original" :: l -> in_kernel line d (fun k -> k.original <- stage line (String.concat " " l) :: k.original)
  | "fused" :: l -> in_kernel line d (fun k -> k.fused <- stage line (String.concat " " l) :: k.fused)
  | [ "result"; o; f ] -> in_kernel line d (fun k -> k.results <- (intern ids o, intern ids f) :: k.results)
  | "output" :: l -> d.outputs <- List.rev_append (List.map (intern ids) l) d.outputs
  | "returns" :: l ->
      d.returns <- Some (List.rev_append (List.map (intern ids) l) (match d.returns with Some r -> r | None -> []))
  | [ "end" ] -> d.ended <- true
  | w :: _ -> raise (Bad (line, "unexpected: " ^ w))

let read_file name =
  let d = { kernels = []; inputs = []; nodes = []; opaque = []; groups = []; outputs = []; returns = None; ended = false } in
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

let body_condition = function
  | B_COMPOSE -> "C-COMPOSE" | B_ORDER -> "C-ORDER" | B_ROUND -> "C-ROUND" | B_ROW -> "C-ROW" | B_BOUNDS -> "C-BOUNDS"

(* Index expressions that differ in form are compared at every point of at most this many. *)
let most_points = integer 65536

let check name =
  let d = read_file name in
  let groups = List.rev_map (fun (members, keep) ->
      (List.rev members, match keep with Some l -> l | None -> [])) d.groups in
  let refuse condition at = Printf.printf "REFUSE %s %s %s\n%!" name condition at; 1 in
  match check_fusion (List.rev d.inputs) (List.rev d.nodes) d.opaque groups (List.rev d.outputs)
          (List.rev (match d.returns with Some r -> r | None -> d.outputs)) with
  | Some (c, at) -> refuse (condition c) (word ids at)
  | None ->
      let rec bodies = function
        | [] -> Printf.printf "ACCEPT %s\n%!" name; 0
        | k :: _ when k.results = [] -> raise (Bad (0, "kernel " ^ k.name ^ " has no result"))
        | k :: rest -> (
            match check_bodies most_points (nat k.rows) (List.rev k.original) (List.rev k.fused) (List.rev k.results) with
            | Some (c, at) -> refuse (body_condition c) (k.name ^ ":" ^ word ids at)
            | None -> bodies rest) in
      bodies (List.rev d.kernels)

let () =
  let files = List.tl (Array.to_list Sys.argv) in
  if files = [] then (prerr_endline "usage: fusion-check FILE ...   (- is standard input)"; exit 2);
  let one name =
    try check name with
    | Bad (line, what) -> Printf.eprintf "%s:%d: %s\n%!" name line what; 2
    | Sys_error what -> Printf.eprintf "%s\n%!" what; 2 in
  exit (List.fold_left (fun worst name -> max worst (one name)) 0 files)
