(** The checker of a fused graph, proved sound.

    What: [check_fusion] reads the graph, the groups in emitted order with what they keep,
    and what both return; [None] is "accepted", [Some (c, w)] the failed condition and
    the id it failed at.  Accepted implies the hypotheses of [fusion_with_clones], so the
    fused graph returns what the graph returns ([check_fusion_sound]).  One sweep a
    condition, with sets and maps keyed by ids: n log n.

    Why: the C++ pass is clever, this is not, and it is the one that is proved.  It is
    extracted to OCaml and run on the dumps of the tests. *)
Require Import List ZArith Bool Lia Permutation MSetPositive FMapPositive.
Require Import Tensor Graph.
Import ListNotations.
Set Implicit Arguments.

Module PS := PositiveSet.
Module PM := PositiveMap.

Definition key := positive.                             (* names a function of what is read *)
Definition node := (id * (key * list id))%type.         (* id, key, reads in order *)
Definition member := (node * id)%type.                  (* a node of a group, the node it is a copy of *)
Definition group := (list member * list id)%type.       (* its nodes in order, what it keeps *)
Inductive condition := C_SSA | C_CONVEX | C_SAME_NODES | C_PURE | C_LIVE.
Definition refusal := option (condition * id).

Definition nid (n : node) : id := fst n.
Definition nreads (n : node) : list id := snd (snd n).
Definition nodes_of (g : group) : list node := map fst (fst g).
Definition flat_nodes (G : list group) : list node := concat (map nodes_of G).

Definition addl (l : list id) (s : PS.t) : PS.t := fold_left (fun s x => PS.add x s) l s.
Definition first {A : Type} (bad : A -> bool) (l : list A) : option A := find bad l.

(** ** C-SSA and C-CONVEX: one sweep in order
    [known] is what is defined so far, at first the inputs. *)
Fixpoint sweep (known : PS.t) (P : list node) : option (id * id) :=
  match P with
  | [] => None
  | (t, (_, rs)) :: Q =>
      if PS.mem t known then Some (t, t)
      else match first (fun r => negb (PS.mem r known)) rs with
           | Some r => Some (t, r)
           | None => sweep (PS.add t known) Q
           end
  end.
(** A read that comes too early has the name C-CONVEX when another group defines it. *)
Definition across (G : list group) (t r : id) : bool :=
  existsb (fun g => existsb (fun n => Pos.eqb (nid n) r) (nodes_of g)
                    && negb (existsb (fun n => Pos.eqb (nid n) t) (nodes_of g))) G
  && negb (Pos.eqb t r).
Definition check_ssa (inputs : list id) (P : list node) : refusal :=
  match sweep (addl inputs PS.empty) P with Some (_, r) => Some (C_SSA, r) | None => None end.
Definition check_order (inputs : list id) (G : list group) : refusal :=
  match sweep (addl inputs PS.empty) (flat_nodes G) with
  | Some (t, r) => Some (if across G t r then C_CONVEX else C_SSA, r)
  | None => None
  end.

(** ** C-SAME-NODES *)
Definition table (P : list node) : PM.t (key * list id) :=
  fold_left (fun m (n : node) => PM.add (fst n) (snd n) m) P (PM.empty _).
Definition origins (G : list group) : PM.t id :=
  fold_left (fun m (x : member) => PM.add (nid (fst x)) (snd x) m) (concat (map fst G)) (PM.empty _).
Definition origin (F : PM.t id) (u : id) : id := match PM.find u F with Some o => o | None => u end.
Fixpoint ids_eqb (a b : list id) : bool :=
  match a, b with
  | [], [] => true
  | x :: a', y :: b' => Pos.eqb x y && ids_eqb a' b'
  | _, _ => false
  end.
Definition same_node (M : PM.t (key * list id)) (F : PM.t id) (n : node) : bool :=
  match PM.find (origin F (nid n)) M with
  | Some (k, rs) => Pos.eqb k (fst (snd n)) && ids_eqb rs (map (origin F) (nreads n))
  | None => false
  end.
Definition covered (F : PM.t id) (n : node) : bool :=
  match PM.find (nid n) F with Some o => Pos.eqb o (nid n) | None => false end.
(** [outs]: what the graph returns; [rets]: what the fused graph returns, in the same order. *)
Definition check_nodes (P : list node) (G : list group) (outs rets : list id) : refusal :=
  let M := table P in let F := origins G in
  match first (fun n => negb (covered F n)) P with
  | Some n => Some (C_SAME_NODES, nid n)
  | None =>
    match first (fun n => negb (same_node M F n)) (flat_nodes G) with
    | Some n => Some (C_SAME_NODES, nid n)
    | None => if ids_eqb (map (origin F) rets) outs then None
              else Some (C_SAME_NODES, match rets with r :: _ => r | [] => 1%positive end)
    end
  end.

(** ** C-PURE
    [opaque]: the opaque nodes of the graph, each with a name of its operation.  The nodes of
    one operation (its results) have one name and read the same. *)
Definition names (opaque : list (id * positive)) : PM.t positive :=
  fold_left (fun m (n : id * positive) => PM.add (fst n) (snd n) m) opaque (PM.empty _).
Definition pure_with (O : PM.t positive) (F : PM.t id) (name : positive) (rs : list id) (n : node) : bool :=
  match PM.find (origin F (nid n)) O with
  | Some name' => Pos.eqb name name' && ids_eqb rs (nreads n)
  | None => false
  end.
Definition pure_group (O : PM.t positive) (F : PM.t id) (ns : list node) : bool :=
  match first (fun n => PM.mem (origin F (nid n)) O) ns with
  | None => true
  | Some n => match PM.find (origin F (nid n)) O with
              | Some name => forallb (pure_with O F name (nreads n)) ns
              | None => false
              end
  end.
Definition check_pure (opaque : list (id * positive)) (G : list group) : refusal :=
  let O := names opaque in let F := origins G in
  match first (fun g => negb (pure_group O F (nodes_of g))) G with
  | Some g => Some (C_PURE, match nodes_of g with n :: _ => nid n | [] => 1%positive end)
  | None => None
  end.

(** ** C-LIVE: from the last group to the first; the set is what is needed later. *)
Definition live_group (need : PS.t) (g : group) : option id :=
  let kept := addl (snd g) PS.empty in
  match first (fun n => PS.mem (nid n) need && negb (PS.mem (nid n) kept)) (nodes_of g) with
  | Some n => Some (nid n)
  | None => let own := addl (map nid (nodes_of g)) PS.empty in
            first (fun o => negb (PS.mem o own)) (snd g)
  end.
Fixpoint live_sweep (outs : list id) (G : list group) : option id * PS.t :=
  match G with
  | [] => (None, addl outs PS.empty)
  | g :: r =>
      let (bad, need) := live_sweep outs r in
      let bad' := match bad with Some w => Some w | None => live_group need g end in
      (bad', fold_left (fun s n => addl (nreads n) s) (nodes_of g) need)
  end.
Definition check_live (outs : list id) (G : list group) : refusal :=
  match fst (live_sweep outs G) with Some w => Some (C_LIVE, w) | None => None end.

(** An output is an input or defined. *)
Definition check_outs (inputs : list id) (P : list node) (outs : list id) : refusal :=
  let known := addl (map nid P) (addl inputs PS.empty) in
  match first (fun o => negb (PS.mem o known)) outs with Some o => Some (C_SSA, o) | None => None end.

Definition orelse (a : refusal) (b : unit -> refusal) : refusal := match a with None => b tt | _ => a end.
Definition check_fusion (inputs : list id) (P : list node) (opaque : list (id * positive))
    (G : list group) (outs rets : list id) : refusal :=
  orelse (check_ssa inputs P) (fun _ =>
  orelse (check_outs inputs P outs) (fun _ =>
  orelse (check_nodes P G outs rets) (fun _ =>
  orelse (check_order inputs G) (fun _ =>
  orelse (check_pure opaque G) (fun _ => check_live rets G))))).

(** ** Lemmas on sets, maps and searches *)
Lemma first_none : forall (A : Type) (bad : A -> bool) l, first bad l = None ->
  forall x, In x l -> bad x = false.
Proof. intros A bad l H x Hx. unfold first in H. eapply find_none in H; eauto. Qed.
Lemma addl_spec : forall l s x, PS.mem x (addl l s) = true <-> In x l \/ PS.mem x s = true.
Proof.
  induction l as [|y l IH]; intros s x; cbn; [tauto|]. unfold addl in IH. rewrite IH.
  rewrite !PS.mem_spec, PS.add_spec. split; intuition congruence.
Qed.
Lemma mem_empty : forall x, PS.mem x PS.empty = false.
Proof. destruct x; reflexivity. Qed.
Lemma addl_empty : forall l x, PS.mem x (addl l PS.empty) = true <-> In x l.
Proof. intros. rewrite addl_spec, mem_empty. intuition discriminate. Qed.
Lemma ids_eqb_eq : forall a b, ids_eqb a b = true -> a = b.
Proof.
  induction a as [|x a IH]; intros [|y b] H; cbn in H; try discriminate; auto.
  apply andb_true_iff in H. destruct H as [H1 H2]. apply Pos.eqb_eq in H1. f_equal; auto.
Qed.
(** A map built by adding a list holds only pairs of the list. *)
Lemma built_in : forall (A B : Type) (k : A -> positive) (v : A -> B) l m u x,
  PM.find u (fold_left (fun m a => PM.add (k a) (v a) m) l m) = Some x ->
  (exists a, In a l /\ k a = u /\ v a = x) \/ PM.find u m = Some x.
Proof.
  intros A B k v l. induction l as [|a l IH]; intros m u x H; cbn in H; auto.
  apply IH in H. destruct H as [(a' & Hin & H)|H]; [left; exists a'; split; [now right|auto]|].
  destruct (Pos.eq_dec u (k a)) as [->|N].
  - rewrite PM.gss in H. inversion H. left; exists a; cbn; auto.
  - rewrite PM.gso in H by auto. auto.
Qed.
Lemma find_empty : forall (A : Type) u, PM.find u (PM.empty A) = None.
Proof. intros. apply PM.gempty. Qed.

(** ** Soundness
    The meaning of a node: a key is a function of what is read; renaming the reads
    renames the loads of the body. *)
Section Sound.
Variable V : Type.
Variable body : key -> list id -> expr V.
Hypothesis body_reads : forall k rs u, reads (body k rs) u -> In u rs.
Hypothesis body_ren : forall f k rs, ren f (body k rs) = body k (map f rs).

Definition def_of (n : node) : id * expr V := (nid n, body (fst (snd n)) (nreads n)).
Definition prog_of (P : list node) : list (id * expr V) := map def_of P.
Definition groups_of (G : list group) : list (list (id * expr V) * list id) :=
  map (fun g => (prog_of (nodes_of g), snd g)) G.

Lemma defs_of : forall P, defs (prog_of P) = map nid P.
Proof. intros; unfold defs, prog_of; rewrite map_map; reflexivity. Qed.
Lemma flat_of : forall G, flat (groups_of G) = prog_of (flat_nodes G).
Proof.
  induction G as [|g r IH]; [reflexivity|]. unfold flat, groups_of, flat_nodes, prog_of in *. cbn.
  rewrite map_app. f_equal; auto.
Qed.

Lemma sweep_fresh : forall P known, sweep known P = None ->
  forall u, In u (map nid P) -> PS.mem u known = false.
Proof.
  induction P as [|[t [k rs]] Q IH]; intros known H u Hu; cbn in *; [contradiction|].
  destruct (PS.mem t known) eqn:E; [discriminate|].
  destruct (first (fun r => negb (PS.mem r known)) rs); [discriminate|].
  destruct Hu as [<-|Hu]; auto. specialize (IH _ H u Hu).
  destruct (PS.mem u known) eqn:E'; auto. rewrite <- IH. symmetry.
  apply PS.mem_spec, PS.add_spec. right. now apply PS.mem_spec.
Qed.
Lemma sweep_sound : forall P known, sweep known P = None -> ssa (prog_of P).
Proof.
  induction P as [|[t [k rs]] Q IH]; intros known H; [constructor|]. cbn in H.
  destruct (PS.mem t known) eqn:E; [discriminate|].
  destruct (first (fun r => negb (PS.mem r known)) rs) eqn:R; [discriminate|].
  pose proof (sweep_fresh _ _ H) as HF. pose proof (first_none _ _ R) as HR.
  assert (K : forall u, In u rs -> PS.mem u known = true).
  { intros u Hu. apply HR in Hu. now apply negb_false_iff. }
  cbn [prog_of map]. fold (prog_of Q). unfold def_of, nreads, nid; cbn. constructor; eauto.
  - rewrite defs_of. intro HI. apply HF in HI.
    assert (PS.mem t (PS.add t known) = true) by (apply PS.mem_spec, PS.add_spec; auto). congruence.
  - intro HI. apply body_reads in HI. apply K in HI. congruence.
  - intros u Hu HI. rewrite defs_of in HI. apply HF in HI. apply body_reads in Hu. apply K in Hu.
    assert (PS.mem u (PS.add t known) = true)
      by (apply PS.mem_spec, PS.add_spec; right; now apply PS.mem_spec). congruence.
Qed.
(** C-SSA of the graph. *)
Theorem check_ssa_sound : forall inputs P, check_ssa inputs P = None -> ssa (prog_of P).
Proof.
  unfold check_ssa; intros inputs P H. destruct (sweep (addl inputs PS.empty) P) as [[? ?]|] eqn:E; [discriminate|].
  eapply sweep_sound; eauto.
Qed.
(** C-SSA of the emitted order. *)
Theorem check_order_sound : forall inputs G, check_order inputs G = None -> ssa (flat (groups_of G)).
Proof.
  unfold check_order; intros inputs G H. rewrite flat_of.
  destruct (sweep (addl inputs PS.empty) (flat_nodes G)) as [[? ?]|] eqn:E; [discriminate|].
  eapply sweep_sound; eauto.
Qed.

(** C-CONVEX: edges between groups, by position. *)
Definition group_edge (G : list (list (id * expr V) * list id)) (i j : nat) : Prop :=
  i <> j /\ exists gi gj t b u, nth_error G i = Some gi /\ nth_error G j = Some gj /\
    In (t, b) (fst gj) /\ reads b u /\ In u (defs (fst gi)).

Lemma ssa_app_later : forall a b : list (id * expr V), ssa (a ++ b) ->
  forall t e u, In (t, e) a -> reads e u -> ~ In u (defs b).
Proof.
  induction a as [|[t0 e0] a IH]; intros b H t e u Hin Hr; [contradiction|].
  cbn in H. inversion H as [|? ? ? H1 H2 H3 H4]; subst. destruct Hin as [E|Hin].
  - inversion E; subst. intro Hb. apply (H3 u Hr). unfold defs in *. rewrite map_app. apply in_or_app; auto.
  - eapply IH; eauto.
Qed.
Lemma ssa_app_r : forall a b : list (id * expr V), ssa (a ++ b) -> ssa b.
Proof. induction a as [|? a IH]; intros b H; auto. inversion H; subst. auto. Qed.
Lemma in_flat : forall (G : list (list (id * expr V) * list id)) i g u,
  nth_error G i = Some g -> In u (defs (fst g)) -> In u (defs (flat G)).
Proof.
  induction G as [|h G IH]; intros [|i] g u H Hu; cbn in H; try discriminate.
  - inversion H; subst. unfold flat, defs; cbn. rewrite map_app. apply in_or_app; auto.
  - unfold flat, defs in *; cbn. rewrite map_app. apply in_or_app; right. eapply IH; eauto.
Qed.
Lemma group_edge_grows : forall G i j, ssa (flat G) -> group_edge G i j -> i < j.
Proof.
  induction G as [|h G IH]; intros i j HS (N & gi & gj & t & b & u & Hi & Hj & Hin & Hr & Hu).
  - destruct i; discriminate.
  - change (flat (h :: G)) with (fst h ++ flat G) in HS. destruct j as [|j], i as [|i]; cbn in Hi, Hj; try lia.
    + inversion Hj; subst. exfalso. eapply ssa_app_later; eauto. eapply in_flat; eauto.
    + apply -> Nat.succ_lt_mono. apply IH; [eapply ssa_app_r; eauto|].
      split; [congruence|]. exists gi, gj, t, b, u; auto.
Qed.
(** An accepted order has no cycle among groups: each group is convex. *)
Theorem check_convex_sound : forall inputs G, check_order inputs G = None ->
  acyclic (group_edge (groups_of G)).
Proof.
  intros inputs G H. apply ranked_acyclic with (rank := fun i => i).
  intros i j. apply group_edge_grows. eapply check_order_sound; eauto.
Qed.

(** C-SAME-NODES: the groups hold the graph's nodes and copies of them, none is lost. *)
Theorem check_nodes_sound : forall P G outs rets, check_nodes P G outs rets = None ->
  covers (origin (origins G)) (prog_of P) (prog_of (flat_nodes G)) /\ map (origin (origins G)) rets = outs.
Proof.
  intros P G outs rets H. unfold check_nodes in H.
  destruct (first (fun n => negb (covered (origins G) n)) P) eqn:EC; [discriminate|].
  destruct (first (fun n => negb (same_node (table P) (origins G) n)) (flat_nodes G)) eqn:ES; [discriminate|].
  destruct (ids_eqb (map (origin (origins G)) rets) outs) eqn:EO; [|discriminate].
  assert (InF : forall u o, PM.find u (origins G) = Some o -> In u (map nid (flat_nodes G))).
  { intros u o Hf. unfold origins in Hf.
    apply built_in with (k := fun x : member => nid (fst x)) (v := fun x : member => snd x) in Hf.
    destruct Hf as [(x & Hin & <- & _)|Hf]; [|rewrite find_empty in Hf; discriminate].
    apply in_map. replace (flat_nodes G) with (map (@fst node id) (concat (map fst G))); [now apply in_map|].
    rewrite concat_map, map_map. reflexivity. }
  split; [split; [|split]|].
  - intros t b Hin. unfold prog_of in Hin. apply in_map_iff in Hin. destruct Hin as (n & E & Hin).
    inversion E; subst. rewrite body_ren.
    pose proof (first_none _ _ ES n Hin) as Hs. apply negb_false_iff in Hs. unfold same_node in Hs.
    destruct (PM.find (origin (origins G) (nid n)) (table P)) as [[k rs]|] eqn:EM; [|discriminate].
    apply andb_true_iff in Hs. destruct Hs as [Hk Hr]. apply Pos.eqb_eq in Hk. apply ids_eqb_eq in Hr.
    unfold table in EM. apply built_in with (k := fun n : node => fst n) (v := fun n : node => snd n) in EM.
    destruct EM as [(m & Hm & E1 & E2)|EM]; [|rewrite find_empty in EM; discriminate].
    rewrite <- E1, <- Hk, <- Hr. unfold prog_of. apply in_map_iff. exists m. split; auto.
    unfold def_of, nid, nreads. now rewrite E2.
  - intros t Ht. rewrite defs_of in *. apply in_map_iff in Ht. destruct Ht as (n & <- & Hn).
    pose proof (first_none _ _ EC n Hn) as Hc. apply negb_false_iff in Hc. unfold covered in Hc.
    destruct (PM.find (nid n) (origins G)) eqn:E; [|discriminate]. eapply InF; eauto.
  - intros u Hu. rewrite defs_of in Hu. unfold origin. destruct (PM.find u (origins G)) eqn:E; auto.
    exfalso. apply Hu. eapply InF; eauto.
  - now apply ids_eqb_eq.
Qed.

(** C-PURE: beside an opaque node there are only nodes of the same operation. *)
Theorem check_pure_sound : forall opaque G, check_pure opaque G = None ->
  forall g n m, In g G -> In n (nodes_of g) -> In m (nodes_of g) ->
  PM.mem (origin (origins G) (nid n)) (names opaque) = true ->
  exists name, PM.find (origin (origins G) (nid n)) (names opaque) = Some name
            /\ PM.find (origin (origins G) (nid m)) (names opaque) = Some name /\ nreads m = nreads n.
Proof.
  intros opaque G H g n m Hg Hn Hm Ho. unfold check_pure in H.
  destruct (first (fun g => negb (pure_group (names opaque) (origins G) (nodes_of g))) G) eqn:E; [discriminate|].
  pose proof (first_none _ _ E g Hg) as Hp. apply negb_false_iff in Hp. unfold pure_group in Hp.
  destruct (first (fun n => PM.mem (origin (origins G) (nid n)) (names opaque)) (nodes_of g)) as [x|] eqn:EF.
  - destruct (PM.find (origin (origins G) (nid x)) (names opaque)) as [name|]; [|discriminate].
    rewrite forallb_forall in Hp.
    assert (K : forall y, In y (nodes_of g) ->
      PM.find (origin (origins G) (nid y)) (names opaque) = Some name /\ nreads x = nreads y).
    { intros y Hy. apply Hp in Hy. unfold pure_with in Hy.
      destruct (PM.find (origin (origins G) (nid y)) (names opaque)); [|discriminate].
      apply andb_true_iff in Hy. destruct Hy as [A B]. apply Pos.eqb_eq in A. apply ids_eqb_eq in B.
      subst; auto. }
    exists name. destruct (K n Hn) as [A B], (K m Hm) as [C D]. repeat split; auto. congruence.
  - pose proof (first_none _ _ EF n Hn) as Hx. cbn in Hx. congruence.
Qed.

Lemma need_spec : forall ns s u, PS.mem u (fold_left (fun s n => addl (nreads n) s) ns s) = true <->
  (exists n, In n ns /\ In u (nreads n)) \/ PS.mem u s = true.
Proof.
  induction ns as [|n ns IH]; intros s u; cbn.
  - split; [auto|]. intros [(n & [] & _)|H]; auto.
  - rewrite IH, addl_spec. split.
    + intros [(m & Hm & Hu)|[Hu|Hu]]; eauto.
    + intros [(m & [<-|Hm] & Hu)|Hu]; eauto.
Qed.
Lemma live_need : forall outs G u, live (fun w => In w outs) (groups_of G) u ->
  PS.mem u (snd (live_sweep outs G)) = true.
Proof.
  induction G as [|g r IH]; cbn; intros u H.
  - now apply addl_empty.
  - destruct (live_sweep outs r) as [bad need]. cbn in *. apply need_spec.
    destruct H as [(t & b & Hin & Hr)|[H _]]; [left|right; auto].
    unfold prog_of in Hin. apply in_map_iff in Hin. destruct Hin as (n & E & Hn). inversion E; subst.
    exists n; split; auto. eapply body_reads; eauto.
Qed.
(** C-LIVE: what is needed later is kept, and only what the group defines. *)
Theorem check_live_sound : forall outs G, check_live outs G = None ->
  keeps (fun w => In w outs) (groups_of G).
Proof.
  intros outs G H. assert (L : fst (live_sweep outs G) = None).
  { unfold check_live in H. destruct (fst (live_sweep outs G)); [discriminate|reflexivity]. }
  clear H. induction G as [|g r IH]; [exact I|]. pose proof (live_need outs r) as HN. cbn in L.
  destruct (live_sweep outs r) as [bad need]. cbn in *.
  destruct bad as [w|]; [discriminate|]. unfold live_group in L.
  destruct (first (fun n => PS.mem (nid n) need && negb (PS.mem (nid n) (addl (snd g) PS.empty))) (nodes_of g)) eqn:E;
    [discriminate|]. repeat split; auto.
  - intros u Hu Hd. apply HN in Hu. rewrite defs_of in Hd. apply in_map_iff in Hd. destruct Hd as (n & <- & Hn).
    pose proof (first_none _ _ E n Hn) as Hb. cbn in Hb. rewrite Hu in Hb. cbn in Hb.
    apply negb_false_iff in Hb. now apply addl_empty.
  - intros o Ho. rewrite defs_of. pose proof (first_none _ _ L o Ho) as Hb. cbn in Hb.
    apply negb_false_iff in Hb. now apply addl_empty.
Qed.

(** The theorem of the checker: an accepted fused graph returns what the graph returns, for
    every meaning of the keys and every input. *)
Theorem check_fusion_sound : forall inputs P opaque G outs rets s,
  check_fusion inputs P opaque G outs rets = None ->
  map (fused s (groups_of G)) rets = map (run s (prog_of P)) outs.
Proof.
  intros inputs P opaque G outs rets s H. unfold check_fusion, orelse in H.
  destruct (check_ssa inputs P) eqn:E1; [discriminate|].
  destruct (check_outs inputs P outs); [discriminate|].
  destruct (check_nodes P G outs rets) eqn:E2; [discriminate|].
  destruct (check_order inputs G) eqn:E3; [discriminate|].
  destruct (check_pure opaque G); [discriminate|].
  destruct (check_nodes_sound _ _ _ _ E2) as [HC <-]. rewrite map_map. apply map_ext_in. intros u Hu.
  apply fusion_with_clones with (f := origin (origins G)) (Out := fun w => In w rets); auto.
  - eapply check_ssa_sound; eauto.
  - eapply check_order_sound; eauto.
  - now rewrite flat_of.
  - now apply check_live_sound.
Qed.

(** ** With real kernels
    Tensors have shapes ([dom]); a real kernel agrees with its group only inside them. *)
Variable dom : id -> idx -> Prop.
Definition agree_in (s s' : store V) : Prop := forall t p, dom t p -> s t p = s' t p.
(** The kernel [k] implements a group: from stores that agree inside the shapes it makes one
    that agrees with the group's.  It follows from "equal bodies inside the shapes"
    (Bodies.v) and "the group reads inside the shapes" (C-BOUNDS). *)
Definition implements (g : list (id * expr V) * list id) (k : store V -> store V) : Prop :=
  forall s s', agree_in s s' -> agree_in (kernel s (fst g) (snd g)) (k s').
Lemma implements_by_bodies : forall g k,
  (forall s s', agree_in s s' -> agree_in (kernel s (fst g) (snd g)) (kernel s' (fst g) (snd g))) ->
  (forall s, agree_in (kernel s (fst g) (snd g)) (k s)) -> implements g k.
Proof. intros g k H1 H2 s s' H t p Hp. rewrite (H1 s s' H t p Hp). now apply H2. Qed.

Definition run_kernels (ks : list (store V -> store V)) (s : store V) : store V := fold_left (fun s k => k s) ks s.
Lemma kernels_agree : forall G ks, Forall2 implements G ks -> forall s s', agree_in s s' ->
  agree_in (fused s G) (run_kernels ks s').
Proof. intros G ks H; induction H as [|g k G ks Hk H IH]; intros s s' Hs; [exact Hs|]. apply IH. now apply Hk. Qed.

(** The whole program: if the graph checker accepts and every kernel implements its group,
    the kernels run in order return, at every point of the shapes, what the graph returns. *)
Theorem certified_program : forall inputs P opaque G outs rets ks s s',
  check_fusion inputs P opaque G outs rets = None ->
  Forall2 implements (groups_of G) ks -> agree_in s s' ->
  Forall2 (fun o r => forall p, dom r p -> run_kernels ks s' r p = run s (prog_of P) o p) outs rets.
Proof.
  intros inputs P opaque G outs rets ks s s' H HK Hs.
  pose proof (check_fusion_sound _ _ _ _ _ _ s H) as E. clear H. revert rets E.
  induction outs as [|o outs IH]; intros [|r rets] E; try discriminate; constructor.
  - cbn in E. injection E as E1 _. intros p Hp. rewrite <- E1. symmetry. now apply (kernels_agree HK Hs).
  - apply IH. cbn in E. now injection E.
Qed.
End Sound.

(** ** What a key is
    The two hypotheses of the section hold for kernels: a key names an expression over the
    operands 1, 2, .., and a node's body is that expression of what the node reads. *)
Section Templates.
Variable V : Type.
Variable arity : key -> nat.
Variable template : key -> expr V.
Variable nothing : V.
Hypothesis closed : forall k u, reads (template k) u -> Pos.to_nat u <= arity k.

Definition operand (rs : list id) (i : id) : id := nth (Pos.to_nat i - 1) rs 1%positive.
Definition body_of (k : key) (rs : list id) : expr V :=
  if Nat.eqb (length rs) (arity k) then ren (operand rs) (template k) else App (fun _ => nothing) [].

Lemma reads_ren : forall (e : expr V) f u, reads (ren f e) u -> exists w, reads e w /\ u = f w.
Proof.
  assert (X : forall l f u, Forall (fun e : expr V => forall f u, reads (ren f e) u -> exists w, reads e w /\ u = f w) l ->
    fold_right (fun a acc => reads a u \/ acc) False (map (ren f) l) ->
    exists w, fold_right (fun a acc => reads a w \/ acc) False l /\ u = f w).
  { intros l f u H. induction H as [|a l Ha H IH]; cbn; intro R; [contradiction|].
    destruct R as [R|R]; [destruct (Ha _ _ R) as (w & ? & ?)|destruct (IH R) as (w & ? & ?)]; eauto. }
  induction e using expr_ind'; intros g u R; cbn in *; eauto.
  - destruct R as [R|R]; [destruct (IHe1 _ _ R) as (w & ? & ?)|destruct (IHe2 _ _ R) as (w & ? & ?)]; eauto.
  - destruct R as [R|R]; [destruct (IHe _ _ R) as (w & ? & ?)|destruct (X _ _ _ H R) as (w & ? & ?)]; eauto.
Qed.
Lemma ren_ren : forall (e : expr V) f g h, (forall u, reads e u -> f (g u) = h u) -> ren f (ren g e) = ren h e.
Proof.
  assert (X : forall l f g h, Forall (fun e : expr V => forall f g h, (forall u, reads e u -> f (g u) = h u) ->
      ren f (ren g e) = ren h e) l ->
    (forall u, fold_right (fun a acc => reads a u \/ acc) False l -> f (g u) = h u) ->
    map (ren f) (map (ren g) l) = map (ren h) l).
  { intros l f g h H. induction H as [|a l Ha H IH]; cbn; intro E; auto. f_equal; auto. }
  induction e using expr_ind'; intros f' g h E; cbn in *; f_equal; auto.
Qed.
Lemma operand_in : forall rs i, Pos.to_nat i <= length rs -> In (operand rs i) rs.
Proof. intros rs i H. apply nth_In. pose proof (Pos2Nat.is_pos i). lia. Qed.

Theorem body_of_reads : forall k rs u, reads (body_of k rs) u -> In u rs.
Proof.
  intros k rs u. unfold body_of. destruct (Nat.eqb_spec (length rs) (arity k)) as [L|L]; cbn; [|contradiction].
  intro R. apply reads_ren in R. destruct R as (w & Hw & ->). apply operand_in. rewrite L. now apply closed.
Qed.
Theorem body_of_ren : forall f k rs, ren f (body_of k rs) = body_of k (map f rs).
Proof.
  intros f k rs. unfold body_of. rewrite map_length.
  destruct (Nat.eqb_spec (length rs) (arity k)) as [L|L]; [|reflexivity].
  apply ren_ren. intros u Hu. unfold operand.
  assert (H : Pos.to_nat u - 1 < length rs) by (apply closed in Hu; pose proof (Pos2Nat.is_pos u); lia).
  rewrite (nth_indep (map f rs) 1%positive (f 1%positive)) by now rewrite map_length. now rewrite map_nth.
Qed.
End Templates.
