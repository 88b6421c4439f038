(** Row kernels: reduce, broadcast, reduce again, in one kernel.

    What: in a row-aligned group every read of an internal tensor stays inside the
    tensor's shape (C-BOUNDS) and in the row of the point being computed (C-ROW).
    Then one kernel instance a row, whose internal buffers hold that row only and
    anything elsewhere, computes what the separate kernels compute.

    Why: softmax, layer norm and attention are of this form, and nothing about the
    scalar functions is used: the result is equal bit for bit. *)
Require Import List ZArith Bool Lia FunctionalExtensionality.
Require Import Tensor Loops.
Import ListNotations.
Set Implicit Arguments.

Section Rows.
Variable V : Type.
Variable R : Type.                          (* names of rows: the kept coordinates *)
Variable row : id -> idx -> R.              (* the row of a point of a tensor *)
Variable dom : id -> idx -> Prop.           (* the points of a tensor's shape *)
Variable internal : id -> bool.             (* the tensors held in row buffers *)

(** [aligned P rho e]: at every point of [P], whose row is [rho], [e] reads internal
    tensors only inside their shape (C-BOUNDS) and in the same row (C-ROW).  The
    branches of a guard count only where they are taken; a gather reads only
    tensors from outside the group. *)
Fixpoint aligned (P : idx -> Prop) (rho : idx -> R) (e : expr V) : Prop :=
  match e with
  | Load _ u phi => internal u = true -> forall p, P p -> dom u (phi p) /\ row u (phi p) = rho p
  | App _ args => fold_right (fun a acc => aligned P rho a /\ acc) True args
  | Guard c a b => aligned (fun p => P p /\ c p = true) rho a
                   /\ aligned (fun p => P p /\ c p = false) rho b
  | Red _ _ ks body =>
      aligned (fun q => exists k p, q = k :: p /\ P p /\ In k (ks p)) (fun q => rho (tl q)) body
  | At ix _ body => (forall u, reads body u -> internal u = false)
                    /\ fold_right (fun a acc => aligned P rho a /\ acc) True ix
  end.

(** Two stores agree outside the group everywhere, inside it on row [r]. *)
Definition agree_row (r : R) (s1 s2 : store V) : Prop :=
  (forall u, internal u = false -> forall p, s1 u p = s2 u p) /\
  (forall u, internal u = true -> forall p, dom u p -> row u p = r -> s1 u p = s2 u p).

Lemma aligned_args : forall P rho l,
  fold_right (fun a acc => aligned P rho a /\ acc) True l <-> forall a, In a l -> aligned P rho a.
Proof.
  induction l as [|a l IH]; cbn; [split; tauto|]. rewrite IH. split.
  - intros [H H'] b [<-|Hb]; auto.
  - intros H; split; auto.
Qed.

Lemma eval_row : forall e s1 s2 r P rho p,
  agree_row r s1 s2 -> aligned P rho e -> P p -> rho p = r -> eval s1 e p = eval s2 e p.
Proof.
  assert (X : forall l s1 s2 r P rho p,
    Forall (fun e => forall s1 s2 r P rho p,
      agree_row r s1 s2 -> aligned P rho e -> P p -> rho p = r -> eval s1 e p = eval s2 e p) l ->
    agree_row r s1 s2 -> fold_right (fun a acc => aligned P rho a /\ acc) True l -> P p -> rho p = r ->
    map (fun a => eval s1 a p) l = map (fun a => eval s2 a p) l).
  { intros l s1 s2 r P rho p HF Ha Hl Hp Hr. apply map_ext_Forall. rewrite Forall_forall in *.
    rewrite aligned_args in Hl. intros a Hin. apply (HF a Hin s1 s2 r P rho p); auto. }
  induction e using expr_ind'; intros s1 s2 r P rho p Hag Ha Hp Hr; cbn in *.
  - destruct Hag as [Hx Hi]. destruct (internal t) eqn:E; [|auto].
    destruct (Ha eq_refl p Hp) as [Hd Hrow]. apply Hi; auto. congruence.
  - f_equal. apply X with (r := r) (P := P) (rho := rho); auto.
  - destruct Ha as [Ha Hb]. destruct (c p) eqn:E.
    + apply IHe1 with (r := r) (P := fun p => P p /\ c p = true) (rho := rho); auto.
    + apply IHe2 with (r := r) (P := fun p => P p /\ c p = false) (rho := rho); auto.
  - f_equal. apply map_ext_in; intros k Hk.
    apply IHe with (r := r) (P := fun q => exists k p, q = k :: p /\ P p /\ In k (dom0 p))
                   (rho := fun q => rho (tl q)); eauto.
  - destruct Ha as [Hb Ha].
    assert (E : map (fun a => eval s1 a p) ix = map (fun a => eval s2 a p) ix) 
      by (apply X with (r := r) (P := P) (rho := rho); auto).
    rewrite E. apply eval_ext. intros u Hu. extensionality q. apply (proj1 Hag). auto.
Qed.

(** The kernel instance of row [r] holds row [r] of each internal tensor.  Elsewhere a
    buffer holds whatever an earlier row or another tensor left there: [junk], which may
    depend on everything. *)
Variable junk : R -> id -> tensor V.
Variable inrow : id -> R -> idx -> bool.
Hypothesis inrow_spec : forall t r p, inrow t r p = true <-> dom t p /\ row t p = r.

Definition exec_row (r : R) (s : store V) (st : id * expr V) : store V :=
  upd s (fst st) (fun p => if inrow (fst st) r p then eval s (snd st) p else junk r (fst st) p).
Definition run_row (r : R) (s : store V) (prog : list (id * expr V)) : store V :=
  fold_left (exec_row r) prog s.
(** C-ROW and C-BOUNDS for a group. *)
Definition aligned_prog (prog : list (id * expr V)) : Prop :=
  forall t b, In (t, b) prog -> internal t = true /\ aligned (dom t) (row t) b.

Lemma run_row_agree : forall prog r s1 s2,
  aligned_prog prog -> agree_row r s1 s2 -> agree_row r (run_row r s1 prog) (run s2 prog).
Proof.
  induction prog as [|[t b] l IH]; intros r s1 s2 Hp Ha; cbn; auto.
  apply IH. { intros t' b' H; apply Hp; now right. }
  destruct (Hp t b (or_introl eq_refl)) as [Hti Hal].
  pose proof Ha as [Hx Hi]. unfold exec, exec_row, upd; split; cbn; intros u Hu.
  - intros p. destruct (Pos.eqb u t) eqn:E; auto.
    apply Pos.eqb_eq in E; subst; congruence.
  - intros p Hd Hr. destruct (Pos.eqb u t) eqn:E; auto.
    apply Pos.eqb_eq in E; subst.
    replace (inrow t (row t p) p) with true by (symmetry; apply inrow_spec; auto).
    eapply eval_row; eauto.
Qed.

(** The kernel: each point of an output comes from the instance of its row. *)
Definition row_kernel (s : store V) (prog : list (id * expr V)) (t : id) : tensor V :=
  fun p => run_row (row t p) s prog t p.

(** C-ROW with C-BOUNDS: the row kernel computes what the group computes. *)
Theorem rbr_single_kernel : forall prog s t p,
  aligned_prog prog -> internal t = true -> dom t p ->
  row_kernel s prog t p = run s prog t p.
Proof.
  intros prog s t p Hp Ht Hd. unfold row_kernel.
  destruct (@run_row_agree prog (row t p) s s Hp) as [_ H].
  - split; intros; reflexivity.
  - apply H; auto.
Qed.

(** As a loop: storing the outputs point by point, rows in any order and on any threads,
    fills the output with what the group computes. *)
Theorem row_loop_fills : forall prog s t ps m q,
  aligned_prog prog -> internal t = true -> NoDup ps -> In q ps -> dom t q ->
  loop (fun _ p => row_kernel s prog t p) ps m q = run s prog t q.
Proof.
  intros. rewrite (loop_fills (row_kernel s prog t)) by auto. now apply rbr_single_kernel.
Qed.
End Rows.

(** ** Instance: the form of softmax and the norms
    On tensors of shape (N, M), for any scalar functions:
      m[i] = fold_j op1 x[i,j]    y[i,j] = f(x[i,j], m[i])
      z[i] = fold_j op2 y[i,j]    o[i,j] = g(y[i,j], z[i])
    Ids: 1 = x (outside), 2 = m, 3 = y, 4 = z, 5 = o; the row is i. *)
Section RBR.
Variable V : Type.
Variables (op1 op2 : V -> V -> V) (e1 e2 : V) (junk : Z -> id -> tensor V) (f g : list V -> V) (N M : nat).
Definition swap2 (q : idx) : idx := match q with k :: i :: _ => [i; k] | _ => [] end.
Definition hd1 (q : idx) : idx := match q with i :: _ => [i] | _ => [] end.
Definition rbr : list (id * expr V) :=
  [ (2%positive, Red op1 e1 (fun _ => zrange M) (Load V 1 swap2));
    (3%positive, App f [Load V 1 (fun p => p); Load V 2 hd1]);
    (4%positive, Red op2 e2 (fun _ => zrange M) (Load V 3 swap2));
    (5%positive, App g [Load V 3 (fun p => p); Load V 4 hd1]) ].
Definition rshape (t : id) : list nat :=
  match t with 3%positive | 5%positive => [N; M] | _ => [N] end.
Definition rdom (t : id) (p : idx) : Prop := inshape (rshape t) p = true.
Definition rrow (_ : id) (p : idx) : Z := hd 0%Z p.
Definition rint (t : id) : bool := negb (Pos.eqb t 1).

Lemma shape2 : forall p, inshape [N; M] p = true ->
  exists i j, p = [i; j] /\ (0 <= i < Z.of_nat N)%Z /\ (0 <= j < Z.of_nat M)%Z.
Proof.
  intros [|i [|j [|k p]]] H; try (cbn in H; rewrite ?andb_false_r in H; discriminate).
  apply inshape_cons in H. destruct H as [Hi H]. apply inshape_cons in H. destruct H as [Hj _]. eauto.
Qed.
Lemma shape1 : forall n p, inshape [n] p = true -> exists i, p = [i] /\ (0 <= i < Z.of_nat n)%Z.
Proof.
  intros n [|i [|j p]] H; try (cbn in H; rewrite ?andb_false_r in H; discriminate).
  apply inshape_cons in H. destruct H; eauto.
Qed.

(** The group of softmax and the norms is row-aligned. *)
Theorem rbr_aligned : aligned_prog rrow rdom rint rbr.
Proof.
  intros t b HI. unfold rdom.
  repeat (destruct HI as [HI|HI]; [inversion HI; subst; clear HI; split; [reflexivity|]|]); [..|contradiction]; cbn -[inshape].
  - discriminate.
  - refine (conj _ (conj _ I)); intros Hint p Hp; [discriminate|].
    apply shape2 in Hp. destruct Hp as (i & j & -> & Hi & Hj).
    split; [apply inshape_cons; auto|reflexivity].
  - intros _ q (k & p & -> & Hp & Hk). apply shape1 in Hp. destruct Hp as (i & -> & Hi).
    apply in_zrange in Hk. split; [|reflexivity]. apply inshape_cons; split; auto. apply inshape_cons; auto.
  - refine (conj _ (conj _ I)); intros _ p Hp.
    + auto.
    + apply shape2 in Hp. destruct Hp as (i & j & -> & Hi & Hj).
      split; [apply inshape_cons; auto|reflexivity].
Qed.

Definition rinrow (t : id) (r : Z) (p : idx) : bool := inshape (rshape t) p && Z.eqb (hd 0%Z p) r.

(** Softmax, layer norm, RMS norm: one kernel instance a row, equal bit for bit. *)
Theorem rbr_fused_correct : forall s i j,
  (0 <= i < Z.of_nat N)%Z -> (0 <= j < Z.of_nat M)%Z ->
  row_kernel rrow junk rinrow s rbr 5 [i; j] = run s rbr 5%positive [i; j].
Proof.
  intros. eapply rbr_single_kernel with (dom := rdom) (internal := rint).
  - intros t r p. unfold rinrow, rdom, rrow. now rewrite andb_true_iff, Z.eqb_eq.
  - apply rbr_aligned.
  - reflexivity.
  - apply inshape_cons; split; auto. apply inshape_cons; auto.
Qed.
End RBR.
