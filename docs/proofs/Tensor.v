(** Tensors, scalar expressions, and inlining.

    What: a tensor is a function from points to values; the body of an operation
    and of a fused kernel is one scalar expression at a point.  Inlining the body of
    a producer where it is read, with composed index maps, changes no value.

    Why: this is the meaning of every vertical fusion dlc does.  No algebraic law is
    used in this file, so each theorem holds for IEEE floats bit for bit: [V] is any
    set, and a scalar function is any function on it. *)
Require Import List ZArith Bool Lia FunctionalExtensionality.
Import ListNotations.
Set Implicit Arguments.

Definition id := positive.                (* names a tensor *)
Bind Scope positive_scope with id.
Definition idx := list Z.                 (* a point: one coordinate an axis *)
(** 0, 1, .., n-1 as coordinates. *)
Definition zrange (n : nat) : list Z := map Z.of_nat (seq 0 n).

Lemma in_zrange : forall n k, In k (zrange n) <-> (0 <= k < Z.of_nat n)%Z.
Proof.
  intros n k. unfold zrange. rewrite in_map_iff. split.
  - intros (i & <- & Hi). apply in_seq in Hi. lia.
  - intros H. exists (Z.to_nat k). rewrite in_seq. lia.
Qed.

Section Core.
Variable V : Type.                        (* values: floats, integers, anything *)
Definition tensor := idx -> V.
Definition store := id -> tensor.         (* what every name stands for *)
Definition upd (s : store) (t : id) (x : tensor) : store :=
  fun u => if Pos.eqb u t then x else s u.

(** Scalar expressions at a point [p]; under [Red] the bound index stands in front
    of [p]. *)
Inductive expr : Type :=
| Load (t : id) (phi : idx -> idx)                                     (* t[phi(p)] *)
| App (f : list V -> V) (args : list expr)                             (* a scalar function *)
| Guard (c : idx -> bool) (a b : expr)                                 (* a where c(p), else b *)
| Red (op : V -> V -> V) (e0 : V) (dom : idx -> list Z) (body : expr)  (* left fold from e0 *)
| At (ix : list expr) (d : list V -> idx -> idx) (body : expr).        (* body at d(ix.., p) *)

(** The classes of operations. *)
Definition Elementwise (f : list V -> V) (ts : list id) : expr :=
  App f (map (fun t => Load t (fun p => p)) ts).
Definition Injective (t : id) (phi : idx -> idx) : expr := Load t phi.
Definition Broadcast (t : id) (proj : idx -> idx) : expr := Load t proj.
Definition Gather (x it : id) (d : list V -> idx -> idx) (q : idx -> idx) : expr :=
  At [Load it q] d (Load x (fun p => p)).
Definition Pad (c : idx -> bool) (t : id) (phi : idx -> idx) (z : V) : expr :=
  Guard c (Load t phi) (App (fun _ => z) []).
Definition Reduce (op : V -> V -> V) (e0 : V) (n : nat) (t : id) (place : idx -> idx) : expr :=
  Red op e0 (fun _ => zrange n) (Load t place).
Definition Contract (op mul2 : V -> V -> V) (e0 : V) (n : nat) (a b : id) (pa pb : idx -> idx) : expr :=
  Red op e0 (fun _ => zrange n)
    (App (fun l => match l with [x; y] => mul2 x y | _ => e0 end) [Load a pa; Load b pb]).
Definition Scan (op : V -> V -> V) (e0 : V) (t : id) (axis : idx -> nat) (place : idx -> idx) : expr :=
  Red op e0 (fun p => zrange (S (axis p))) (Load t place).

(** The value of an expression.  A reduction is a left fold in the order given. *)
Fixpoint eval (s : store) (e : expr) (p : idx) {struct e} : V :=
  match e with
  | Load t phi => s t (phi p)
  | App f args => f (map (fun a => eval s a p) args)
  | Guard c a b => if c p then eval s a p else eval s b p
  | Red op e0 dom body => fold_left op (map (fun k => eval s body (k :: p)) (dom p)) e0
  | At ix d body => eval s body (d (map (fun a => eval s a p) ix) p)
  end.

(** Induction that reaches into the argument lists. *)
Lemma expr_ind' (P : expr -> Prop)
  (HL : forall t phi, P (Load t phi))
  (HA : forall f args, Forall P args -> P (App f args))
  (HG : forall c a b, P a -> P b -> P (Guard c a b))
  (HR : forall op e0 dom body, P body -> P (Red op e0 dom body))
  (HT : forall ix d body, Forall P ix -> P body -> P (At ix d body)) : forall e, P e.
Proof.
  fix IH 1. intros [t phi|f args|c a b|op e0 dom body|ix d body].
  - apply HL.
  - apply HA. induction args as [|a l IHl]; constructor; [apply IH|exact IHl].
  - apply HG; apply IH.
  - apply HR; apply IH.
  - apply HT; [|apply IH]. induction ix as [|a l IHl]; constructor; [apply IH|exact IHl].
Qed.

Lemma map_ext_Forall : forall (A B : Type) (f g : A -> B) l,
  Forall (fun a => f a = g a) l -> map f l = map g l.
Proof. intros A B f g l H; induction H; cbn; congruence. Qed.

(** ** Index maps compose *)
(** [psi] below one bound index. *)
Definition lift (psi : idx -> idx) (q : idx) : idx :=
  match q with k :: p => k :: psi p | [] => psi [] end.
(** The expression seen through the index map [psi]. *)
Fixpoint rebase (psi : idx -> idx) (e : expr) : expr :=
  match e with
  | Load t phi => Load t (fun p => phi (psi p))
  | App f args => App f (map (rebase psi) args)
  | Guard c a b => Guard (fun p => c (psi p)) (rebase psi a) (rebase psi b)
  | Red op e0 dom body => Red op e0 (fun p => dom (psi p)) (rebase (lift psi) body)
  | At ix d body => At (map (rebase psi) ix) (fun vs p => d vs (psi p)) body
  end.

(** C-COMPOSE, maps: reading a body through an index map is evaluating it at the
    mapped point. *)
Theorem rebase_compose : forall e s psi p, eval s (rebase psi e) p = eval s e (psi p).
Proof.
  induction e using expr_ind'; intros s psi p; cbn; auto.
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
  - now rewrite IHe1, IHe2.
  - f_equal. apply map_ext; intro k. now rewrite IHe.
  - f_equal. f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
Qed.

(** ** Inlining *)
(** Every read of [t] in [e] becomes the producer's body [b], through the read's map. *)
Fixpoint inline (t : id) (b : expr) (e : expr) : expr :=
  match e with
  | Load u phi => if Pos.eqb u t then rebase phi b else Load u phi
  | App f args => App f (map (inline t b) args)
  | Guard c x y => Guard c (inline t b x) (inline t b y)
  | Red op e0 dom body => Red op e0 dom (inline t b body)
  | At ix d body => At (map (inline t b) ix) d (inline t b body)
  end.

(** A program is a list of definitions, run in order. *)
Definition exec (s : store) (st : id * expr) : store := upd s (fst st) (fun p => eval s (snd st) p).
Definition run (s : store) (prog : list (id * expr)) : store := fold_left exec prog s.

(** C-COMPOSE: a consumer with its producer inlined computes what it computes after
    the producer was stored. *)
Theorem inline_correct : forall e s t b p,
  eval (exec s (t, b)) e p = eval s (inline t b e) p.
Proof.
  unfold exec; cbn; induction e using expr_ind'; intros s u b' p; cbn; auto.
  - unfold upd. destruct (Pos.eqb t u); cbn; auto. now rewrite rebase_compose.
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
  - now rewrite IHe1, IHe2.
  - f_equal. apply map_ext; intro k. apply IHe.
  - rewrite IHe. f_equal. f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
Qed.

(** A whole group becomes one expression. *)
Fixpoint inline_all (prog : list (id * expr)) (e : expr) : expr :=
  match prog with [] => e | (t, b) :: r => inline t b (inline_all r e) end.

(** C-COMPOSE for a group: its last expression with all members inlined. *)
Theorem inline_all_correct : forall prog s e p,
  eval (run s prog) e p = eval s (inline_all prog e) p.
Proof.
  induction prog as [|[t b] r IH]; intros; cbn; auto.
  unfold run in *; cbn. rewrite IH. apply inline_correct.
Qed.

(** ** The pairs of classes: instances of inlining *)
Ltac pair_instance := intros; rewrite inline_correct; cbn; rewrite Pos.eqb_refl; try reflexivity.

(** An elementwise operation after another. *)
Corollary ew_ew_fusion : forall s f g x t p,
  eval (exec s (t, Elementwise f [x])) (Elementwise g [t]) p = g [f [s x p]].
Proof. pair_instance. Qed.

(** One index map after another is the composed map. *)
Corollary inj_inj_fusion : forall s x t phi psi p,
  eval (exec s (t, Injective x phi)) (Injective t psi) p = eval s (Injective x (fun q => phi (psi q))) p.
Proof. pair_instance. Qed.

(** A broadcast read by an elementwise operation. *)
Corollary bcast_into_ew : forall s x y t proj f p, y <> t ->
  eval (exec s (t, Broadcast x proj)) (Elementwise f [t; y]) p = f [s x (proj p); s y p].
Proof. pair_instance. apply Pos.eqb_neq in H. now rewrite H. Qed.

(** A padded tensor read by an elementwise operation: the guard moves along. *)
Corollary pad_into_ew : forall s x t c phi z f p,
  eval (exec s (t, Pad c x phi z)) (Elementwise f [t]) p = f [if c p then s x (phi p) else z].
Proof. pair_instance. Qed.

(** An elementwise operation inside a reduction (prologue). *)
Corollary ew_into_reduce : forall s f x t op e0 n place p,
  eval (exec s (t, Elementwise f [x])) (Reduce op e0 n t place) p
  = fold_left op (map (fun k => f [s x (place (k :: p))]) (zrange n)) e0.
Proof. pair_instance. Qed.

(** An elementwise operation at the finished point of a reduction (epilogue). *)
Corollary reduce_epilogue : forall s g x t op e0 n place p,
  eval (exec s (t, Reduce op e0 n x place)) (Elementwise g [t]) p
  = g [fold_left op (map (fun k => s x (place (k :: p))) (zrange n)) e0].
Proof. pair_instance. Qed.

(** A matrix product with a prologue on one operand and an epilogue. *)
Corollary matmul_prologue_epilogue : forall s f g a a' b t op mul2 e0 n pa pb p, b <> a' ->
  eval (run s [(a', Elementwise f [a]); (t, Contract op mul2 e0 n a' b pa pb)]) (Elementwise g [t]) p
  = g [fold_left op (map (fun k => mul2 (f [s a (pa (k :: p))]) (s b (pb (k :: p)))) (zrange n)) e0].
Proof.
  intros. unfold run, exec, upd; cbn. rewrite !Pos.eqb_refl.
  apply Pos.eqb_neq in H. now rewrite H.
Qed.

(** ** What an expression reads *)
Fixpoint reads (e : expr) (u : id) : Prop :=
  match e with
  | Load t _ => u = t
  | App _ args => fold_right (fun a acc => reads a u \/ acc) False args
  | Guard _ a b => reads a u \/ reads b u
  | Red _ _ _ body => reads body u
  | At ix _ body => reads body u \/ fold_right (fun a acc => reads a u \/ acc) False ix
  end.

Lemma reads_args : forall l u,
  fold_right (fun a acc => reads a u \/ acc) False l <-> exists a, In a l /\ reads a u.
Proof.
  induction l as [|a l IH]; intro u; cbn.
  - split; [tauto|intros (a & H & _); auto].
  - rewrite IH. split.
    + intros [H|(a' & H & H')]; eauto.
    + intros (a' & [<-|H] & H'); eauto.
Qed.

(** An expression depends only on what it reads. *)
Theorem eval_ext : forall e s1 s2 p, (forall u, reads e u -> s1 u = s2 u) -> eval s1 e p = eval s2 e p.
Proof.
  assert (X : forall l s1 s2 p,
    Forall (fun e => forall s1 s2 p, (forall u, reads e u -> s1 u = s2 u) -> eval s1 e p = eval s2 e p) l ->
    (forall u, fold_right (fun a acc => reads a u \/ acc) False l -> s1 u = s2 u) ->
    map (fun a => eval s1 a p) l = map (fun a => eval s2 a p) l).
  { intros l s1 s2 p HF Hr. apply map_ext_Forall. rewrite Forall_forall in *. intros a Ha.
    apply HF; auto. intros u Hu. apply Hr. apply reads_args. eauto. }
  induction e using expr_ind'; intros s1 s2 p Hr; cbn in *.
  - now rewrite Hr.
  - f_equal. apply X; auto.
  - rewrite (IHe1 s1 s2), (IHe2 s1 s2); auto.
  - f_equal. apply map_ext; auto.
  - rewrite (IHe s1 s2) by auto. f_equal. f_equal. apply X; auto.
Qed.

(** Renaming: [ren f e] reads [f u] where [e] reads [u]. *)
Fixpoint ren (f : id -> id) (e : expr) : expr :=
  match e with
  | Load t phi => Load (f t) phi
  | App g args => App g (map (ren f) args)
  | Guard c a b => Guard c (ren f a) (ren f b)
  | Red op e0 dom body => Red op e0 dom (ren f body)
  | At ix d body => At (map (ren f) ix) d (ren f body)
  end.
Lemma eval_ren : forall e f s p, eval s (ren f e) p = eval (fun u => s (f u)) e p.
Proof.
  induction e using expr_ind'; intros g s p; cbn; auto.
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
  - now rewrite IHe1, IHe2.
  - f_equal. apply map_ext; auto.
  - rewrite IHe. f_equal. f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. auto.
Qed.

(** ** Loops that compute several things at once *)
(** Sibling reductions over one domain: one pass, a pair of accumulators. *)
Theorem horizontal_reduce : forall (A : Type) (f g : V -> A -> V) l a b,
  fold_left (fun s x => (f (fst s) x, g (snd s) x)) l (a, b) = (fold_left f l a, fold_left g l b).
Proof. intros A f g; induction l; intros; cbn; auto. Qed.

(** A kept elementwise result and the reduction that reads it: the loop
    "y[k] = f(k); acc = op(acc, y[k])". *)
Theorem ew_reduce_one_loop : forall (op : V -> V -> V) (f : Z -> V) ks ys acc,
  fold_left (fun st k => let y := f k in (fst st ++ [y], op (snd st) y)) ks (ys, acc)
  = (ys ++ map f ks, fold_left op (map f ks) acc).
Proof.
  intros op f; induction ks; intros; cbn; [now rewrite app_nil_r|].
  rewrite IHks, <- app_assoc; reflexivity.
Qed.
End Core.

(** ** Shapes *)
(** The point [p] lies in the shape [s]. *)
Fixpoint inshape (s : list nat) (p : idx) : bool :=
  match s, p with
  | [], [] => true
  | n :: s', x :: p' => (0 <=? x)%Z && (x <? Z.of_nat n)%Z && inshape s' p'
  | _, _ => false
  end.
(** All points of a shape, in row-major order. *)
Fixpoint points (s : list nat) : list idx :=
  match s with
  | [] => [[]]
  | n :: s' => flat_map (fun x => map (cons x) (points s')) (zrange n)
  end.

Lemma inshape_cons : forall n s x p,
  inshape (n :: s) (x :: p) = true <-> (0 <= x < Z.of_nat n)%Z /\ inshape s p = true.
Proof. intros. cbn. rewrite !andb_true_iff, Z.leb_le, Z.ltb_lt. tauto. Qed.

Lemma in_points : forall s p, In p (points s) <-> inshape s p = true.
Proof.
  induction s as [|n s IH]; intro p.
  - destruct p; cbn; split; auto; [intros [H|[]]|]; discriminate.
  - destruct p as [|x p].
    + cbn. split; [|discriminate]. intro H. apply in_flat_map in H.
      destruct H as (x & _ & H). apply in_map_iff in H. destruct H as (q & H & _). discriminate.
    + rewrite inshape_cons. cbn [points]. rewrite in_flat_map. split.
      * intros (y & Hy & H). apply in_map_iff in H. destruct H as (q & E & Hq). inversion E; subst.
        apply in_zrange in Hy. apply IH in Hq. auto.
      * intros [Hx Hp]. exists x. rewrite in_zrange. split; auto. apply in_map. now apply IH.
Qed.
