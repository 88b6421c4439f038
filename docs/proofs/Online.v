(** Online softmax, attention and Welford in the reals, and the rounding bounds.

    What: the running state (reference m, scaled sum s, scaled weighted sum o) represents
    the plain sums of exp ([online_hom]), so one pass over the row computes softmax and
    attention ([online_softmax], [online_attention]); the division is safe exactly when a
    score is above -inf ([finite_row]); (n, mean, M2) represents (n, sum, sum of squares)
    ([welford_hom], [welford_fold]); a sum in any order and bracketing is within
    ((1+u)^depth - 1) * sum|x| of the exact one ([fp_sum_any_order]).

    Why: these are the instances of C-HOM and C-FINITE, and what C-SPLIT and C-REORDER cost
    for floats. *)
Require Import List Reals Lra Lia ZArith Bool.
Require Import Loops.
Import ListNotations.
Set Implicit Arguments.
Open Scope R_scope.

(** ** The online state *)
Definition st := (R * R * R)%type.
Definition merge (a b : st) : st :=
  match a, b with (m1, s1, o1), (m2, s2, o2) =>
    let m := Rmax m1 m2 in
    (m, s1 * exp (m1 - m) + s2 * exp (m2 - m), o1 * exp (m1 - m) + o2 * exp (m2 - m)) end.
Definition emb (xv : R * R) : st := (fst xv, 1, snd xv).       (* one score x, one value v *)
(** What a state stands for: the unscaled sums. *)
Definition rep (a : st) : R * R := match a with (m, s, o) => (s * exp m, o * exp m) end.
Definition add2 (a b : R * R) := (fst a + fst b, snd a + snd b).

Lemma exp_shift : forall a b, exp (a - b) * exp b = exp a.
Proof. intros; rewrite <- exp_plus; f_equal; lra. Qed.
Lemma exp_neq0 : forall x, exp x <> 0.
Proof. intros; pose proof (exp_pos x); lra. Qed.

(** The merge is right whatever reference [m] is chosen; the maximum is for range. *)
Theorem online_any_reference : forall m m1 s1 o1 m2 s2 o2,
  rep (m, s1 * exp (m1 - m) + s2 * exp (m2 - m), o1 * exp (m1 - m) + o2 * exp (m2 - m))
  = add2 (rep (m1, s1, o1)) (rep (m2, s2, o2)).
Proof.
  intros; unfold rep, add2; cbn.
  f_equal; rewrite Rmult_plus_distr_r, !Rmult_assoc, !exp_shift; reflexivity.
Qed.
(** C-HOM for softmax and attention: merging states adds what they stand for. *)
Theorem online_hom : forall a b, rep (merge a b) = add2 (rep a) (rep b).
Proof. intros [[m1 s1] o1] [[m2 s2] o2]. apply online_any_reference. Qed.

(** States merge associatively, so key blocks may be split over threads. *)
Theorem merge_assoc : forall a b c, merge a (merge b c) = merge (merge a b) c.
Proof.
  intros [[m1 s1] o1] [[m2 s2] o2] [[m3 s3] o3]; unfold merge.
  set (m12 := Rmax m1 m2); set (m23 := Rmax m2 m3).
  replace (Rmax m1 m23) with (Rmax m12 m3) by (unfold m12, m23; symmetry; apply Rmax_assoc).
  set (m := Rmax m12 m3).
  assert (E : forall x y z, x * exp (y - z) * exp (z - m) = x * exp (y - m)).
  { intros; rewrite Rmult_assoc, <- exp_plus; f_equal; f_equal; lra. }
  f_equal; [f_equal|]; rewrite !Rmult_plus_distr_r, !E; lra.
Qed.
(** And commutatively, so they may be combined as they arrive. *)
Theorem merge_comm : forall a b, merge a b = merge b a.
Proof.
  intros [[m1 s1] o1] [[m2 s2] o2]; unfold merge. rewrite (Rmax_comm m2 m1).
  f_equal; [f_equal|]; lra.
Qed.

(** ** Softmax-weighted sums *)
Definition wsum (l : list (R * R)) : R * R :=
  fold_left add2 (map (fun xv => (exp (fst xv), snd xv * exp (fst xv))) l) (0, 0).
(** One pass with the online state computes sum exp(x) and sum v*exp(x). *)
Theorem online_softmax : forall x0 v0 l,
  rep (fold_left merge (map emb l) (emb (x0, v0))) = wsum ((x0, v0) :: l).
Proof.
  intros. rewrite (hom_fold _ _ _ online_hom). unfold wsum, emb, rep; cbn.
  unfold add2 at 3; cbn. rewrite !Rplus_0_l, Rmult_1_l. f_equal.
  apply map_ext. intros [x v]; cbn. now rewrite Rmult_1_l.
Qed.
(** Attention: the quotient of the state is the softmax-weighted mean of the values. *)
Theorem online_attention : forall x0 v0 l, let '(m, s, o) := fold_left merge (map emb l) (emb (x0, v0)) in
  let '(Z, W) := wsum ((x0, v0) :: l) in s <> 0 -> o / s = W / Z.
Proof.
  intros. pose proof (online_softmax x0 v0 l) as H.
  destruct (fold_left merge (map emb l) (emb (x0, v0))) as [[m s] o].
  destruct (wsum ((x0, v0) :: l)) as [Z W]. cbn in H. inversion H. intro Hs.
  field. split; [auto using exp_neq0|auto].
Qed.
(** The three-pass softmax subtracts any reference without changing the result. *)
Theorem softmax_shift : forall x m Z, Z <> 0 -> exp (x - m) / (Z * exp (- m)) = exp x / Z.
Proof. intros. unfold Rminus. rewrite exp_plus. field. split; auto using exp_neq0. Qed.
(** With the maximum as reference every weight is at most 1: no overflow. *)
Theorem online_no_overflow : forall m1 m2, exp (m1 - Rmax m1 m2) <= 1.
Proof.
  intros. rewrite <- exp_0. pose proof (Rmax_l m1 m2).
  destruct (Req_dec m1 (Rmax m1 m2)) as [E|E].
  - right; f_equal; lra.
  - left; apply exp_increasing; lra.
Qed.

(** ** Masked rows
    A score is [Some x], or [None] for -inf: weight 0, and a reference [lo] that is
    never used as a divisor. *)
Definition weight (x : option R) : R := match x with Some x => exp x | None => 0 end.
Definition embm (lo : R) (xv : option R * R) : st :=
  match fst xv with Some x => (x, 1, snd xv) | None => (lo, 0, 0) end.
Definition wsumm (l : list (option R * R)) : R * R :=
  fold_left add2 (map (fun xv => (weight (fst xv), snd xv * weight (fst xv))) l) (0, 0).

Lemma rep_embm : forall lo xv, rep (embm lo xv) = (weight (fst xv), snd xv * weight (fst xv)).
Proof. intros lo [[x|] v]; cbn; f_equal; ring. Qed.
(** The online state with masked scores represents the masked sums. *)
Theorem online_masked : forall lo l, rep (fold_left merge (map (embm lo) l) (lo, 0, 0)) = wsumm l.
Proof.
  intros. rewrite (hom_fold _ _ _ online_hom). unfold wsumm.
  replace (rep (lo, 0, 0)) with (0, 0) by (cbn; f_equal; ring). f_equal.
  apply map_ext. apply rep_embm.
Qed.
Lemma wsumm_pos : forall l a, 0 <= fst a -> (0 < fst a \/ exists x v, In (Some x, v) l) ->
  0 < fst (fold_left add2 (map (fun xv => (weight (fst xv), snd xv * weight (fst xv))) l) a).
Proof.
  induction l as [|[[x|] v] l IH]; intros a Ha H; cbn.
  - destruct H as [H|(x & v & [])]; auto.
  - apply IH; cbn; pose proof (exp_pos x); [lra|left; lra].
  - apply IH; cbn; [lra|]. destruct H as [H|(x & v' & [H|H])]; [left; lra|discriminate|right; eauto].
Qed.
(** C-FINITE: if one score of the row is above -inf the running sum is positive, so the
    division is safe and gives the masked softmax-weighted mean. *)
Theorem finite_row : forall lo l, (exists x v, In (Some x, v) l) ->
  let '(m, s, o) := fold_left merge (map (embm lo) l) (lo, 0, 0) in
  let '(Z, W) := wsumm l in 0 < s /\ o / s = W / Z.
Proof.
  intros lo l H. pose proof (online_masked lo l) as E.
  assert (P : 0 < fst (wsumm l)) by (unfold wsumm; apply wsumm_pos; cbn; [lra|auto]).
  destruct (fold_left merge (map (embm lo) l) (lo, 0, 0)) as [[m s] o].
  destruct (wsumm l) as [Z W]. cbn in E, P. inversion E; subst.
  pose proof (exp_pos m). assert (0 < s).
  { apply Rmult_lt_reg_r with (exp m); lra. }
  split; auto. field. split; lra.
Qed.
(** Without it the state has sum 0: the kernel needs its explicit branch for the empty row. *)
Theorem empty_row : forall lo l, (forall x v, In (x, v) l -> x = None) ->
  let '(m, s, o) := fold_left merge (map (embm lo) l) (lo, 0, 0) in s = 0.
Proof.
  intros lo l H. pose proof (online_masked lo l) as E.
  assert (Z0 : wsumm l = (0, 0)).
  { unfold wsumm. clear E. induction l as [|[x v] l IH]; [reflexivity|].
    rewrite (H x v (or_introl eq_refl)). cbn.
    replace (add2 (0, 0) (0, v * 0)) with (0, 0) by (unfold add2; cbn; f_equal; ring).
    apply IH. intros; eapply H; right; eauto. }
  rewrite Z0 in E. destruct (fold_left merge (map (embm lo) l) (lo, 0, 0)) as [[m s] o].
  cbn in E. injection E as A _. apply Rmult_integral in A. destruct A as [A|A]; auto.
  exfalso; exact (exp_neq0 m A).
Qed.

(** ** Welford: (n, mean, M2), for layer norm and variance *)
Definition wmerge (a b : R * R * R) : R * R * R :=
  match a, b with (n1, u1, q1), (n2, u2, q2) =>
    let n := n1 + n2 in let d := u2 - u1 in
    (n, u1 + d * (n2 / n), q1 + q2 + d * d * (n1 * n2 / n)) end.
Definition wrep (a : R * R * R) : R * R * R :=
  match a with (n, u, q) => (n, n * u, q + n * u * u) end.
(** C-HOM for Welford: merging adds counts, sums and sums of squares. *)
Theorem welford_hom : forall n1 u1 q1 n2 u2 q2, n1 + n2 <> 0 ->
  wrep (wmerge (n1, u1, q1) (n2, u2, q2)) =
  (n1 + n2, n1 * u1 + n2 * u2, (q1 + n1 * u1 * u1) + (q2 + n2 * u2 * u2)).
Proof. intros; unfold wrep, wmerge. f_equal; [f_equal|]; field; auto. Qed.

Definition rsum (l : list R) : R := fold_right Rplus 0 l.
Definition wfold (x0 : R) (l : list R) : R * R * R := fold_left (fun a x => wmerge a (1, x, 0)) l (1, x0, 0).
Lemma wfold_rep : forall l n u q, 0 < n ->
  wrep (fold_left (fun a x => wmerge a (1, x, 0)) l (n, u, q)) =
  (n + INR (length l), n * u + rsum l, q + n * u * u + rsum (map (fun x => x * x) l)).
Proof.
  induction l as [|x l IH]; intros n u q Hn.
  - cbn. f_equal; [f_equal|]; ring.
  - cbn [fold_left]. unfold wmerge at 2. rewrite IH by lra.
    replace (length (x :: l)) with (S (length l)) by reflexivity. rewrite S_INR. cbn [map rsum fold_right].
    fold (rsum l). fold (rsum (map (fun x => x * x) l)).
    f_equal; [f_equal|]; field; lra.
Qed.
(** One pass of Welford over a row has count, sum and sum of squares, hence mean and variance. *)
Theorem welford_fold : forall x0 l,
  wrep (wfold x0 l) = (INR (S (length l)), rsum (x0 :: l), rsum (map (fun x => x * x) (x0 :: l))).
Proof.
  intros. unfold wfold. rewrite wfold_rep by lra. rewrite S_INR. unfold rsum. cbn [map fold_right].
  f_equal; [f_equal|]; ring.
Qed.

(** ** Rounding
    [u] is the unit roundoff; a bracketing and order of a sum is a tree. *)
Section FP.
Variable u : R.
Hypothesis u_pos : 0 <= u.
Inductive tree := Leaf (x : R) | Node (l r : tree).
(** [rounds t v]: [v] is a result of [t] when every addition has relative error at most u. *)
Inductive rounds : tree -> R -> Prop :=
| RL : forall x, rounds (Leaf x) x
| RN : forall l r a b v, rounds l a -> rounds r b -> Rabs (v - (a + b)) <= u * Rabs (a + b) ->
       rounds (Node l r) v.
Fixpoint exact (t : tree) : R := match t with Leaf x => x | Node l r => exact l + exact r end.
Fixpoint mag (t : tree) : R := match t with Leaf x => Rabs x | Node l r => mag l + mag r end.
Fixpoint depth (t : tree) : nat := match t with Leaf _ => 0 | Node l r => S (Nat.max (depth l) (depth r)) end.
Lemma mag_pos : forall t, 0 <= mag t.
Proof. induction t; cbn; [apply Rabs_pos|lra]. Qed.
Lemma exact_mag : forall t, Rabs (exact t) <= mag t.
Proof. induction t; cbn; [lra|]. eapply Rle_trans; [apply Rabs_triang|lra]. Qed.
Lemma pow_mono : forall a b, (a <= b)%nat -> (1 + u) ^ a <= (1 + u) ^ b.
Proof. intros; apply Rle_pow; [lra|auto]. Qed.

(** A sum of terms in any order and bracketing of depth d is within ((1+u)^d - 1) sum|x|. *)
Theorem fp_sum_any_order : forall t v, rounds t v ->
  Rabs (v - exact t) <= ((1 + u) ^ depth t - 1) * mag t.
Proof.
  intros t v H; induction H; cbn [exact mag depth].
  - replace (x - x) with 0 by lra. rewrite Rabs_R0. cbn. pose proof (Rabs_pos x). nra.
  - set (d := Nat.max (depth l) (depth r)) in *.
    pose proof (pow_mono (Nat.le_max_l (depth l) (depth r))) as Pl.
    pose proof (pow_mono (Nat.le_max_r (depth l) (depth r))) as Pr. fold d in Pl, Pr.
    pose proof (mag_pos l) as Ml; pose proof (mag_pos r) as Mr.
    pose proof (exact_mag l) as El; pose proof (exact_mag r) as Er.
    assert (A : Rabs (a - exact l) <= ((1 + u) ^ d - 1) * mag l) by (eapply Rle_trans; [eassumption|nra]).
    assert (B : Rabs (b - exact r) <= ((1 + u) ^ d - 1) * mag r) by (eapply Rle_trans; [eassumption|nra]).
    set (P := (1 + u) ^ d) in *.
    assert (C : Rabs (a + b) <= P * (mag l + mag r)).
    { replace (a + b) with ((a - exact l) + (b - exact r) + (exact l + exact r)) by lra.
      eapply Rle_trans; [apply Rabs_triang|].
      eapply Rle_trans; [apply Rplus_le_compat; apply Rabs_triang|]. lra. }
    replace (v - (exact l + exact r)) with ((v - (a + b)) + (a - exact l) + (b - exact r)) by lra.
    eapply Rle_trans; [apply Rabs_triang|].
    eapply Rle_trans; [apply Rplus_le_compat_r; apply Rabs_triang|].
    change ((1 + u) ^ S d) with ((1 + u) * P). nra.
Qed.
(** Two orders of the same sum differ by at most the two bounds. *)
Corollary fp_reassociation : forall t1 t2 v1 v2, rounds t1 v1 -> rounds t2 v2 ->
  exact t1 = exact t2 -> mag t1 = mag t2 ->
  Rabs (v1 - v2) <= (((1 + u) ^ depth t1 - 1) + ((1 + u) ^ depth t2 - 1)) * mag t1.
Proof.
  intros t1 t2 v1 v2 H1 H2 E M. apply fp_sum_any_order in H1; apply fp_sum_any_order in H2.
  rewrite <- E, <- M in H2. replace (v1 - v2) with ((v1 - exact t1) - (v2 - exact t1)) by lra.
  eapply Rle_trans; [apply Rabs_triang|]. rewrite Rabs_Ropp. lra.
Qed.
End FP.

(** ** The laws distribute(scale) and excess
    Sums of products of factors that are multiplied by numbers: the numbers may follow the sum. *)
Fixpoint dot (xs : list (R * R)) : R :=
  match xs with [] => 0 | (x, y) :: rest => x * y + dot rest end.
Theorem scale_distributes : forall a b xs,
  dot (map (fun p => (fst p * a, snd p * b)) xs) = a * b * dot xs.
Proof.
  intros a b xs. induction xs as [|[x y] rest IH]; simpl; [ring|]. rewrite IH. ring.
Qed.
(** An internal value [x] is [exact] but for [e]; a rounding would move it by at most [r] more.
    What a function that grows distances at most [K] times makes of it is within [K * e] without
    the rounding and within [K * (e + r)] with it: the bound never rises when it is left out. *)
Theorem excess_bound : forall (f : R -> R) K x rounded exact e r, 0 <= K -> 0 <= r ->
  (forall a b, Rabs (f a - f b) <= K * Rabs (a - b)) ->
  Rabs (x - exact) <= e -> Rabs (rounded - x) <= r ->
  Rabs (f x - f exact) <= K * e /\ Rabs (f rounded - f exact) <= K * (e + r) /\ K * e <= K * (e + r).
Proof.
  intros f K x rounded exact e r HK Hr L Hx Hq.
  assert (Rabs (rounded - exact) <= e + r) as Hd.
  { replace (rounded - exact) with ((rounded - x) + (x - exact)) by ring.
    eapply Rle_trans; [apply Rabs_triang|]. lra. }
  repeat split.
  - eapply Rle_trans; [apply L|]. apply Rmult_le_compat_l; assumption.
  - eapply Rle_trans; [apply L|]. apply Rmult_le_compat_l; assumption.
  - apply Rmult_le_compat_l; lra.
Qed.

(** ** Why C-CONTRACT and C-ROUND are conditions
    Numbers of two decimal digits, rounded down: [round2 121 = 120]. *)
Definition round2 (x : Z) : Z := if (Z.abs x <? 100)%Z then x else (10 * (x / 10))%Z.
(** C-CONTRACT: one rounding instead of two (a fused multiply-add) changes the result,
    although all operands are representable. *)
Theorem contract_changes_bits : exists a b c,
  round2 a = a /\ round2 b = b /\ round2 c = c /\ round2 (round2 (a * b) + c) <> round2 (a * b + c).
Proof. exists 11%Z, 11%Z, 9%Z. repeat split; try reflexivity. intro H. vm_compute in H. discriminate. Qed.
(** C-ROUND: leaving out the rounding of an internal edge changes the result. *)
Theorem dropped_cast_changes_bits : exists a b c,
  round2 a = a /\ round2 b = b /\ round2 c = c /\ round2 (round2 (a + b) + c) <> round2 (a + b + c).
Proof. exists 99%Z, 6%Z, 5%Z. repeat split; try reflexivity. intro H. vm_compute in H. discriminate. Qed.
