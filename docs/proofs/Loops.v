(** Loops: stores into memory, in-place update, tiling, and folds by chunks.

    What: a loop that stores one point after the other, in any order without
    repetition, fills the tensor ([loop_fills]); it may overwrite its operand when every
    point reads only itself ([inplace_pointwise]); blocking one axis keeps the order of
    a loop ([block_order]), tiling several axes permutes it ([tile_permutation]); a fold
    may be split for an associative operation with a unit ([split_reduce]) and
    reordered when that is commutative too ([reorder_reduce]); a fold's state may be
    replaced by one that represents it ([hom_fold]).

    Why: schedules cut and reorder loops; this is what each of them may rely on. *)
Require Import List ZArith Bool Lia Permutation FunctionalExtensionality.
Require Import Tensor.
Import ListNotations.
Set Implicit Arguments.

(** ** Memory *)
Section Memory.
Variable V : Type.
Definition idx_eq : forall p q : idx, {p = q} + {p <> q} := list_eq_dec Z.eq_dec.
(** One store instruction. *)
Definition poke (m : tensor V) (p : idx) (v : V) : tensor V :=
  fun q => if idx_eq q p then v else m q.
(** The loop "for p in ps: m[p] = body(m, p)"; the body may read the memory. *)
Definition loop (body : tensor V -> idx -> V) (ps : list idx) (m : tensor V) : tensor V :=
  fold_left (fun m p => poke m p (body m p)) ps m.

Lemma poke_same : forall m p v, poke m p v p = v.
Proof. intros. unfold poke. destruct (idx_eq p p); congruence. Qed.
Lemma poke_other : forall m p v q, q <> p -> poke m p v q = m q.
Proof. intros. unfold poke. destruct (idx_eq q p); congruence. Qed.

(** C-NOALIAS: an in-place loop whose body reads of the overwritten tensor only the
    point it is about to write (identity map, last use) computes what a loop into
    fresh memory computes, whatever the order of the points. *)
Theorem inplace_pointwise : forall (f : V -> idx -> V) ps m, NoDup ps ->
  forall q, loop (fun m p => f (m p) p) ps m q = if in_dec idx_eq q ps then f (m q) q else m q.
Proof.
  intros f ps. induction ps as [|p ps IH]; intros m HD q; [reflexivity|].
  inversion HD; subst. change (loop (fun m p => f (m p) p) (p :: ps) m)
    with (loop (fun m p => f (m p) p) ps (poke m p (f (m p) p))).
  rewrite IH by auto. destruct (in_dec idx_eq q ps) as [Hq|Hq].
  - rewrite poke_other by (intros ->; contradiction).
    destruct (in_dec idx_eq q (p :: ps)) as [_|N]; [reflexivity|exfalso; apply N; now right].
  - destruct (in_dec idx_eq q (p :: ps)) as [[->|?]|N]; [apply poke_same|contradiction|].
    apply poke_other. intros ->. apply N; now left.
Qed.

(** Without that condition in-place is wrong: shifting a tensor by one in place
    reads what was just written. *)
Theorem inplace_shift_wrong : forall a b : V, a <> b ->
  exists ps m q, NoDup ps /\ loop (fun m p => m (map Z.pred p)) ps m q <> m (map Z.pred q) /\ In q ps.
Proof.
  intros a b H. exists [[1%Z]; [2%Z]], (fun p => match p with [0%Z] => a | _ => b end), [2%Z].
  split; [|split].
  - repeat constructor; cbn; intuition discriminate.
  - cbn. unfold poke; cbn. auto.
  - cbn; auto.
Qed.

(** A loop into fresh memory fills the tensor, in any order of the points. *)
Corollary loop_fills : forall (t : tensor V) ps m, NoDup ps ->
  forall q, In q ps -> loop (fun _ p => t p) ps m q = t q.
Proof.
  intros t ps m HD q Hq. rewrite (inplace_pointwise (fun _ p => t p) m HD q).
  destruct (in_dec idx_eq q ps); [reflexivity|contradiction].
Qed.
(** So two schedules of the same points give the same memory. *)
Corollary loop_reorder : forall (t : tensor V) ps qs m, NoDup ps -> Permutation ps qs ->
  forall q, In q ps -> loop (fun _ p => t p) ps m q = loop (fun _ p => t p) qs m q.
Proof.
  intros. rewrite !loop_fills; auto; eauto using Permutation_in, Permutation_NoDup.
Qed.
End Memory.

(** ** Tiling *)
Lemma seq_block : forall m n, seq 0 (n * m) = flat_map (fun i => map (fun j => i * m + j) (seq 0 m)) (seq 0 n).
Proof.
  intros m n. induction n as [|n IH]; [reflexivity|].
  replace (S n * m) with (n * m + m) by lia. rewrite seq_app, IH.
  replace (S n) with (n + 1) by lia. rewrite (seq_app n 1), flat_map_app. f_equal. cbn.
  rewrite app_nil_r. clear IH. generalize (n * m). intro a.
  replace a with (a + 0) at 1 by lia. generalize 0. revert a.
  induction m as [|m IHm]; intros a k; cbn; auto. f_equal. rewrite <- IHm. f_equal. lia.
Qed.
(** Blocking one axis by [m] visits the same indices in the same order: it needs no law. *)
Theorem block_order : forall n m,
  zrange (n * m) = flat_map (fun i => map (fun j => i * Z.of_nat m + j)%Z (zrange m)) (zrange n).
Proof.
  intros. unfold zrange. rewrite seq_block. generalize (seq 0 n) as l.
  induction l as [|i l IH]; cbn; auto. rewrite map_app, IH. f_equal.
  rewrite !map_map. apply map_ext. intro j. lia.
Qed.

Section Perm.
Variables A B : Type.
Lemma flat_map_perm : forall (f : A -> list B) l l', Permutation l l' -> Permutation (flat_map f l) (flat_map f l').
Proof.
  intros f l l' H. induction H; cbn; auto.
  - now apply Permutation_app_head.
  - rewrite !app_assoc. apply Permutation_app_tail, Permutation_app_comm.
  - etransitivity; eauto.
Qed.
Lemma flat_map_ext_perm : forall (f g : A -> list B) l, (forall a, Permutation (f a) (g a)) ->
  Permutation (flat_map f l) (flat_map g l).
Proof. intros f g l H; induction l; cbn; auto. now apply Permutation_app. Qed.
Lemma flat_map_split : forall (f g : A -> list B) l,
  Permutation (flat_map (fun a => f a ++ g a) l) (flat_map f l ++ flat_map g l).
Proof.
  intros f g l; induction l as [|a l IH]; cbn; auto.
  rewrite <- !app_assoc. apply Permutation_app_head. rewrite IH, !app_assoc.
  apply Permutation_app_tail, Permutation_app_comm.
Qed.
End Perm.
(** Two loops may be interchanged: the same visits in another order. *)
Theorem interchange : forall (A B C : Type) (f : A -> B -> list C) la lb,
  Permutation (flat_map (fun a => flat_map (f a) lb) la) (flat_map (fun b => flat_map (fun a => f a b) la) lb).
Proof.
  intros A B C f la lb. induction la as [|a la IH]; cbn.
  - induction lb; cbn; auto.
  - rewrite IH. symmetry. apply flat_map_split with (f := f a).
Qed.
Lemma flat_map_flat_map : forall (A B C : Type) (f : B -> list C) (g : A -> list B) l,
  flat_map f (flat_map g l) = flat_map (fun a => flat_map f (g a)) l.
Proof. intros; induction l; cbn; auto. now rewrite flat_map_app, IHl. Qed.
Lemma flat_map_map : forall (A B C : Type) (f : B -> list C) (g : A -> B) l,
  flat_map f (map g l) = flat_map (fun a => f (g a)) l.
Proof. intros; induction l; cbn; congruence. Qed.

(** Tiling is a permutation: the loop nest "for I, J, i, j" over tiles of (m1, m2)
    visits what the nest "for x, y" visits.  With [block_order] and [interchange] the same
    follows for any number of axes. *)
Theorem tile_permutation : forall (A : Type) (visit : Z -> Z -> list A) n1 m1 n2 m2,
  Permutation
    (flat_map (fun x => flat_map (visit x) (zrange (n2 * m2))) (zrange (n1 * m1)))
    (flat_map (fun I => flat_map (fun J => flat_map (fun i => flat_map (fun j =>
       visit (I * Z.of_nat m1 + i) (J * Z.of_nat m2 + j))%Z (zrange m2)) (zrange m1)) (zrange n2)) (zrange n1)).
Proof.
  intros. rewrite (block_order n1 m1), flat_map_flat_map. apply flat_map_ext_perm. intro I.
  rewrite flat_map_map.
  etransitivity; [|apply interchange with (f := fun i J => flat_map (fun j => visit (I * Z.of_nat m1 + i) (J * Z.of_nat m2 + j))%Z (zrange m2))].
  apply flat_map_ext_perm. intro i. rewrite block_order, flat_map_flat_map.
  apply flat_map_ext_perm. intro J. rewrite flat_map_map. reflexivity.
Qed.
(** A tile that does not divide the axis: full blocks, then the rest, in order. *)
Theorem block_tail : forall n m r,
  zrange (n * m + r) = zrange (n * m) ++ map (fun j => Z.of_nat (n * m) + j)%Z (zrange r).
Proof.
  intros. unfold zrange. rewrite seq_app, map_app. f_equal. cbn.
  rewrite map_map. generalize (n * m) as a. intro a.
  replace a with (a + 0) at 1 by lia. generalize 0 as k. induction r as [|r IH]; intro k; cbn; auto.
  f_equal; [lia|]. replace (S (a + k)) with (a + S k) by lia. apply IH.
Qed.

(** ** Folds under laws *)
Section Monoid.
Variable M : Type.
Variable op : M -> M -> M.
Variable e : M.
Hypothesis assoc : forall a b c, op a (op b c) = op (op a b) c.
Hypothesis unitl : forall a, op e a = a.
Hypothesis unitr : forall a, op a e = a.

Definition fold (l : list M) : M := fold_left op l e.

Lemma fold_acc : forall l a, fold_left op l a = op a (fold l).
Proof.
  unfold fold; induction l as [|x l IH]; intros a; cbn; [now rewrite unitr|].
  rewrite IH, (IH (op e x)), unitl, assoc; reflexivity.
Qed.
Theorem fold_app : forall l1 l2, fold (l1 ++ l2) = op (fold l1) (fold l2).
Proof. intros; unfold fold at 1; rewrite fold_left_app; apply fold_acc. Qed.

(** C-SPLIT: folding chunks apart (tiles, threads, blocks, vector lanes over contiguous
    parts) and combining them in order gives the fold. *)
Theorem split_reduce : forall chunks, fold (concat chunks) = fold (map fold chunks).
Proof.
  induction chunks as [|a chunks IH]; [reflexivity|]. cbn [concat map]. rewrite fold_app, IH.
  change (fold (fold a :: map fold chunks)) with (fold ([fold a] ++ map fold chunks)).
  rewrite fold_app; f_equal. unfold fold at 2; cbn. now rewrite unitl.
Qed.

Hypothesis comm : forall a b, op a b = op b a.
(** C-REORDER: folding in any order (interleaved lanes, atomics, axis interchange) gives
    the fold. *)
Theorem reorder_reduce : forall l1 l2, Permutation l1 l2 -> fold l1 = fold l2.
Proof.
  intros l1 l2 H. unfold fold. generalize e. induction H; intros a; cbn; auto.
  - f_equal. rewrite <- !assoc, (comm y x); reflexivity.
  - now rewrite IHPermutation1.
Qed.
(** A tiled reduction over two axes is the reduction. *)
Corollary tiled_reduce : forall (x : Z -> Z -> M) n1 m1 n2 m2,
  fold (flat_map (fun i => flat_map (fun j => [x i j]) (zrange (n2 * m2))) (zrange (n1 * m1)))
  = fold (flat_map (fun I => flat_map (fun J => flat_map (fun i => flat_map (fun j =>
       [x (I * Z.of_nat m1 + i) (J * Z.of_nat m2 + j)])%Z (zrange m2)) (zrange m1)) (zrange n2)) (zrange n1)).
Proof. intros. apply reorder_reduce, tile_permutation with (visit := fun i j => [x i j]). Qed.
End Monoid.

(** C-HOM: a fold may use another state type when [h] carries its operation to the
    original one. *)
Section Hom.
Variables (A M N : Type) (op : M -> M -> M) (op' : N -> N -> N) (h : N -> M).
Hypothesis hom : forall a b, h (op' a b) = op (h a) (h b).
Theorem hom_fold : forall (emb : A -> N) l e',
  h (fold_left op' (map emb l) e') = fold_left op (map (fun x => h (emb x)) l) (h e').
Proof. intros emb; induction l; intros; cbn; [reflexivity|]. rewrite IHl, hom; reflexivity. Qed.
End Hom.

(** ** Exact monoids: the law holds bit for bit, so order is free in every mode *)
Definition commutative_monoid (M : Type) (op : M -> M -> M) (e : M) (ok : M -> Prop) : Prop :=
  (forall a b c, op a (op b c) = op (op a b) c) /\ (forall a b, op a b = op b a) /\
  (forall a, ok a -> op e a = a /\ op a e = a).

(** Integer sum and product, wrapping at 2^w. *)
Definition wrap (w : positive) (x : Z) : Z := (x mod (2 ^ Zpos w))%Z.
Theorem wrap_add_monoid : forall w,
  commutative_monoid (fun a b => wrap w (a + b)) 0%Z (fun a => wrap w a = a).
Proof.
  intro w. assert (H : (2 ^ Zpos w <> 0)%Z) by (apply Z.pow_nonzero; lia).
  unfold commutative_monoid, wrap. repeat split; intros.
  - rewrite Zplus_mod_idemp_r, Zplus_mod_idemp_l. f_equal; lia.
  - f_equal; lia.
  - auto.
  - now rewrite Z.add_0_r.
Qed.
Theorem wrap_mul_monoid : forall w,
  commutative_monoid (fun a b => wrap w (a * b)) 1%Z (fun a => wrap w a = a).
Proof.
  intro w. assert (H : (2 ^ Zpos w <> 0)%Z) by (apply Z.pow_nonzero; lia).
  unfold commutative_monoid, wrap. repeat split; intros.
  - rewrite Zmult_mod_idemp_r, Zmult_mod_idemp_l. f_equal; lia.
  - f_equal; lia.
  - now rewrite Z.mul_1_l.
  - now rewrite Z.mul_1_r.
Qed.
Theorem and_monoid : commutative_monoid andb true (fun _ => True).
Proof. repeat split; intros; destruct a; auto; destruct b; auto. Qed.
Theorem or_monoid : commutative_monoid orb false (fun _ => True).
Proof. repeat split; intros; destruct a; auto; destruct b; auto. Qed.
(** Maximum with one NaN rule: [None] is NaN and wins; numbers are ranks of a total
    order; [lo] is the least. *)
Definition nanmax (a b : option Z) : option Z :=
  match a, b with Some x, Some y => Some (Z.max x y) | _, _ => None end.
Theorem nanmax_monoid : forall lo,
  commutative_monoid nanmax (Some lo) (fun a => match a with Some x => lo <= x | None => True end)%Z.
Proof.
  intro lo; repeat split; intros; repeat match goal with x : option Z |- _ => destruct x end; cbn in *; auto;
  f_equal; lia.
Qed.
(** Arg-max on (value, index): the greater value, on ties the smaller index. *)
Definition argmax (a b : Z * Z) : Z * Z :=
  if (fst b >? fst a)%Z then b else if (fst a >? fst b)%Z then a else (fst a, Z.min (snd a) (snd b)).
Ltac cases :=
  repeat (match goal with |- context [(?x >? ?y)%Z] => is_var x; is_var y; destruct (Z.gtb_spec x y) end; cbn [fst snd]);
  solve [exfalso; lia | f_equal; lia].
Theorem argmax_assoc_comm :
  (forall a b c, argmax a (argmax b c) = argmax (argmax a b) c) /\ (forall a b, argmax a b = argmax b a).
Proof.
  split.
  - intros [a i] [b j] [c k]. unfold argmax; cbn [fst snd]. cases.
  - intros [a i] [b j]. unfold argmax; cbn [fst snd]. cases.
Qed.
