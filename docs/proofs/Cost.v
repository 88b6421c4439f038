(** "Not slower", inside a declared cost model: T(kernel) = L + max(bytes/beta, work/pi).

    What: when a fused kernel moves no more than its parts and the launches saved
    (C-TRAFFIC), its extra work fits in those launches and the parts' memory slack
    (C-RECOMPUTE), and its effective rates are no lower than the parts' (C-CAPACITY,
    C-LAYOUT for beta, C-PAR for pi), it takes no longer than the parts.

    Why: legality says a fusion is right, this says when it pays.  The model itself
    is not proved: measurements judge it. *)
Require Import List Reals Lra.
Import ListNotations.
Open Scope R_scope.

(** Times already: [b] = bytes/beta, [w] = work/pi. *)
Record kern := { b : R; w : R }.
Definition T (L : R) (k : kern) : R := L + Rmax (b k) (w k).
Definition sum (f : kern -> R) (l : list kern) : R := fold_right (fun k a => f k + a) 0 l.
Definition slack (k : kern) : R := Rmax 0 (b k - w k).

Lemma sum_b_le : forall l, sum b l <= sum (fun k => Rmax (b k) (w k)) l.
Proof.
  induction l as [|k l IH]; cbn; [lra|]. fold (sum b l). fold (sum (fun k => Rmax (b k) (w k)) l).
  pose proof (Rmax_l (b k) (w k)); lra.
Qed.
Lemma sum_w_slack : forall l, sum (fun k => Rmax (b k) (w k)) l = sum w l + sum slack l.
Proof.
  assert (A : forall k, Rmax (b k) (w k) = w k + slack k).
  { intro k; unfold slack, Rmax. destruct (Rle_dec (b k) (w k)); destruct (Rle_dec 0 (b k - w k)); lra. }
  induction l as [|k l IH]; cbn; [lra|]. fold (sum w l). fold (sum slack l).
  fold (sum (fun k => Rmax (b k) (w k)) l). rewrite IH, A; lra.
Qed.
Lemma sum_T : forall L l, sum (T L) l = INR (length l) * L + sum (fun k => Rmax (b k) (w k)) l.
Proof.
  induction l as [|k l IH]; [cbn; lra|]. cbn [length sum fold_right]. fold (sum (T L) l).
  fold (sum (fun k => Rmax (b k) (w k)) l). rewrite IH, S_INR. unfold T at 1. lra.
Qed.
Lemma one_le_length : forall A (l : list A), (1 <= length l)%nat -> 1 <= INR (length l).
Proof. intros. apply (le_INR 1); auto. Qed.

(** C-TRAFFIC and C-RECOMPUTE: then fused is not slower than the parts. *)
Theorem not_slower : forall L l f delta, 0 <= L -> (1 <= length l)%nat ->
  b f <= sum b l + (INR (length l) - 1) * L ->
  w f <= sum w l + delta ->
  delta <= (INR (length l) - 1) * L + sum slack l ->
  T L f <= sum (T L) l.
Proof.
  intros L l f delta HL Hn Hb Hw Hd. rewrite sum_T. unfold T.
  pose proof (one_le_length _ l Hn). pose proof (sum_b_le l). pose proof (sum_w_slack l).
  apply Rmax_case_strong; intros _; nra.
Qed.

Lemma slack_pos : forall l, 0 <= sum slack l.
Proof.
  induction l as [|k l IH]; cbn; [lra|]. fold (sum slack l).
  pose proof (Rmax_l 0 (b k - w k)); unfold slack in *; lra.
Qed.
(** C-RECOMPUTE without recompute: less traffic alone suffices. *)
Corollary not_slower_pure : forall L l f, 0 <= L -> (1 <= length l)%nat ->
  b f <= sum b l -> w f <= sum w l -> T L f <= sum (T L) l.
Proof.
  intros. pose proof (one_le_length _ l H0). pose proof (slack_pos l).
  assert (0 <= (INR (length l) - 1) * L) by (apply Rmult_le_pos; lra).
  apply not_slower with (delta := 0); auto; lra.
Qed.

(** ** Rates
    A part moves [bytes] at rate [beta] and works [work] at rate [pi]. *)
Record part := { bytes : R; work : R; beta : R; pi : R }.
Definition time_of (k : part) : kern := {| b := bytes k / beta k; w := work k / pi k |}.
Definition total (f : part -> R) (l : list part) : R := fold_right (fun k a => f k + a) 0 l.

Lemma rate_sum : forall (num rate : part -> R) (r : R) l, 0 < r ->
  (forall k, In k l -> 0 <= num k /\ 0 < rate k <= r) ->
  total num l / r <= total (fun k => num k / rate k) l.
Proof.
  intros num rate r l Hr. induction l as [|k l IH]; intro H; cbn.
  - unfold Rdiv; rewrite Rmult_0_l; lra.
  - fold (total num l). fold (total (fun k => num k / rate k) l).
    destruct (H k (or_introl eq_refl)) as [Hn [Hp Hl]].
    assert (total num l / r <= total (fun k => num k / rate k) l) by (apply IH; intros; apply H; now right).
    assert (num k / r <= num k / rate k).
    { unfold Rdiv. apply Rmult_le_compat_l; auto. apply Rinv_le_contravar; auto. }
    replace ((num k + total num l) / r) with (num k / r + total num l / r) by (unfold Rdiv; ring). lra.
Qed.

(** C-CAPACITY, C-LAYOUT (beta) and C-PAR (pi): if the fused kernel's rates are at least
    each part's, and it moves and works no more than they do together, it is not slower. *)
Theorem not_slower_rates : forall L l (f : part), 0 <= L -> (1 <= length l)%nat -> 0 < beta f -> 0 < pi f ->
  (forall k, In k l -> 0 <= bytes k /\ 0 < beta k <= beta f) ->
  (forall k, In k l -> 0 <= work k /\ 0 < pi k <= pi f) ->
  bytes f <= total bytes l -> work f <= total work l ->
  T L (time_of f) <= sum (T L) (map time_of l).
Proof.
  intros L l f HL Hn Pb Pp Hb Hp B W.
  assert (Mb : sum b (map time_of l) = total (fun k => bytes k / beta k) l)
    by (clear; induction l; cbn; unfold sum, total in *; congruence).
  assert (Mw : sum w (map time_of l) = total (fun k => work k / pi k) l)
    by (clear; induction l; cbn; unfold sum, total in *; congruence).
  apply not_slower_pure; auto; [now rewrite map_length| |]; cbn.
  - rewrite Mb. eapply Rle_trans; [|apply rate_sum with (r := beta f); auto].
    unfold Rdiv. apply Rmult_le_compat_r; auto. left; now apply Rinv_0_lt_compat.
  - rewrite Mw. eapply Rle_trans; [|apply rate_sum with (r := pi f); auto].
    unfold Rdiv. apply Rmult_le_compat_r; auto. left; now apply Rinv_0_lt_compat.
Qed.

(** C-SIZE: splitting a group that is too large costs at most the launches and the traffic
    of the cut, so a limit on members never makes the parts slower than no fusion at
    all: pieces that are each not slower than their parts are not slower together. *)
Theorem not_slower_pieces : forall L (pieces : list (kern * list kern)),
  (forall f l, In (f, l) pieces -> T L f <= sum (T L) l) ->
  sum (T L) (map fst pieces) <= sum (T L) (concat (map snd pieces)).
Proof.
  intros L pieces H.
  assert (A : forall l1 l2, sum (T L) (l1 ++ l2) = sum (T L) l1 + sum (T L) l2).
  { intros l1 l2; induction l1 as [|k l1 IH1]; [cbn [app]; change (sum (T L) []) with 0; ring|]; cbn [app sum fold_right].
    fold (sum (T L) (l1 ++ l2)). fold (sum (T L) l1). rewrite IH1; lra. }
  induction pieces as [|[f l] r IH]; cbn [map concat fst snd]; [lra|].
  rewrite A. cbn [sum fold_right]. fold (sum (T L) (map fst r)).
  pose proof (H f l (or_introl eq_refl)).
  assert (sum (T L) (map fst r) <= sum (T L) (concat (map snd r))) by (apply IH; intros; apply H; now right). lra.
Qed.
