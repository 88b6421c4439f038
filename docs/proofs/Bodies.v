(** Bodies: the checker that a fused kernel computes what its members compute.

    What: stages are written as trees ([sx]: loads at index expressions, scalar functions,
    guards, folds, gathers).  [check_bodies] inlines the members' stages and the kernel's
    stages, compares the two trees of every result (index expressions by form, else at
    every point), and checks the rows of the kernel's own buffers.  [check_bodies_sound]:
    if it answers [None], the kernel, run row by row, computes the members' results at every
    point of their shape, for every meaning of the scalar functions.

    Why: Check.v sees which node is where; this sees what the kernels compute: C-COMPOSE,
    C-ORDER, C-ROUND, C-ROW, C-BOUNDS. *)
Require Import List ZArith Bool Lia FMapPositive FunctionalExtensionality.
Require Import Tensor Rows Digits.
Import ListNotations.
Open Scope Z_scope.

Module PM := PositiveMap.

(** ** Index expressions over the coordinates of a point *)
Inductive ix := D (i : nat) | C (z : Z) | Add (a b : ix) | Mul (a : ix) (c : Z) | Div (a : ix) (c : Z) | Mod (a : ix) (c : Z).
Fixpoint ieval (p : idx) (e : ix) : Z :=
  match e with
  | D i => nth i p 0
  | C z => z
  | Add a b => ieval p a + ieval p b
  | Mul a c => ieval p a * c
  | Div a c => ieval p a / c
  | Mod a c => ieval p a mod c
  end.
Definition cond := (bool * ix)%type.                    (* true: e >= 0; false: e = 0 *)
Definition holds (c : list cond) (p : idx) : bool :=
  forallb (fun b : cond => if fst b then 0 <=? ieval p (snd b) else ieval p (snd b) =? 0) c.

(** ** Scalar expressions as trees; functions and start values are names *)
Inductive sx :=
| Ld (t : id) (m : list ix)                              (* t at m *)
| Fn (f : positive) (args : list sx)                     (* a scalar function, a cast, a literal *)
| Gd (c : list cond) (a b : sx)                          (* a where c, else b *)
| Fd (op init : positive) (ns : list Z) (body : sx)      (* row-major left fold; its axes come first *)
| Ga (vals : list sx) (body : sx).                       (* the integers of vals come first *)

Lemma sx_ind' (P : sx -> Prop)
  (HL : forall t m, P (Ld t m)) (HF : forall f l, Forall P l -> P (Fn f l))
  (HG : forall c a b, P a -> P b -> P (Gd c a b)) (HR : forall op i ns b, P b -> P (Fd op i ns b))
  (HA : forall l b, Forall P l -> P b -> P (Ga l b)) : forall e, P e.
Proof.
  fix IH 1. intros [t m|f l|c a b|op i ns b|l b].
  - apply HL.
  - apply HF. induction l; constructor; [apply IH|assumption].
  - apply HG; apply IH.
  - apply HR; apply IH.
  - apply HA; [|apply IH]. induction l; constructor; [apply IH|assumption].
Qed.

Section Meaning.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).

Definition fold_points (ns : list Z) : list Z := zrange (Z.to_nat (prod ns)).
(** The value of a tree at a point. *)
Fixpoint sev (s : store V) (e : sx) (p : idx) {struct e} : V :=
  match e with
  | Ld t m => s t (map (ieval p) m)
  | Fn f l => fn f (map (fun a => sev s a p) l)
  | Gd c a b => if holds c p then sev s a p else sev s b p
  | Fd op i ns b => fold_left (op2 op) (map (fun k => sev s b (unlin ns k ++ p)) (fold_points ns)) (start i)
  | Ga l b => sev s b (map toint (map (fun a => sev s a p) l) ++ p)
  end.
(** The tree as an expression of Tensor.v. *)
Definition unflat (ns : list Z) (q : idx) : idx := match q with k :: p => unlin ns k ++ p | [] => [] end.
Fixpoint denote (e : sx) : expr V :=
  match e with
  | Ld t m => Load V t (fun p => map (ieval p) m)
  | Fn f l => App (fn f) (map denote l)
  | Gd c a b => Guard (holds c) (denote a) (denote b)
  | Fd op i ns b => Red (op2 op) (start i) (fun _ => fold_points ns) (rebase (unflat ns) (denote b))
  | Ga l b => At (map denote l) (fun vs p => map toint vs ++ p) (denote b)
  end.
Lemma denote_sev : forall e s p, eval s (denote e) p = sev s e p.
Proof.
  induction e using sx_ind'; intros s p; cbn; auto.
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]; auto.
  - now rewrite IHe1, IHe2.
  - f_equal. apply map_ext. intro k. rewrite rebase_compose, IHe. reflexivity.
  - rewrite IHe. do 3 f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]; auto.
Qed.
Definition prog := list (id * sx).
Definition program (P : prog) : list (id * expr V) := map (fun d => (fst d, denote (snd d))) P.
End Meaning.

(** ** Substitution of coordinates *)
Fixpoint ishift (n : nat) (e : ix) : ix :=
  match e with
  | D i => D (n + i) | C z => C z | Add a b => Add (ishift n a) (ishift n b)
  | Mul a c => Mul (ishift n a) c | Div a c => Div (ishift n a) c | Mod a c => Mod (ishift n a) c
  end.
Fixpoint isub (m : list ix) (e : ix) : ix :=
  match e with
  | D i => nth i m (C 0) | C z => C z | Add a b => Add (isub m a) (isub m b)
  | Mul a c => Mul (isub m a) c | Div a c => Div (isub m a) c | Mod a c => Mod (isub m a) c
  end.
Definition under (n : nat) (m : list ix) : list ix := map D (seq 0 n) ++ map (ishift n) m.
Definition csub (m : list ix) (c : list cond) : list cond := map (fun b : cond => (fst b, isub m (snd b))) c.
Fixpoint ssub (m : list ix) (e : sx) : sx :=
  match e with
  | Ld t k => Ld t (map (isub m) k)
  | Fn f l => Fn f (map (ssub m) l)
  | Gd c a b => Gd (csub m c) (ssub m a) (ssub m b)
  | Fd op i ns b => Fd op i ns (ssub (under (length ns) m) b)
  | Ga l b => Ga (map (ssub m) l) (ssub (under (length l) m) b)
  end.

Lemma ishift_eval : forall e k p, ieval (k ++ p) (ishift (length k) e) = ieval p e.
Proof.
  induction e; intros k p; cbn; rewrite ?IHe, ?IHe1, ?IHe2; auto.
  rewrite app_nth2 by lia. f_equal. lia.
Qed.
Lemma isub_eval : forall e m p, ieval p (isub m e) = ieval (map (ieval p) m) e.
Proof.
  induction e; intros m p; cbn; rewrite ?IHe, ?IHe1, ?IHe2; auto.
  change 0 with (ieval p (C 0)) at 2. now rewrite map_nth.
Qed.
Lemma csub_holds : forall c m p, holds (csub m c) p = holds c (map (ieval p) m).
Proof.
  intros c m p. unfold holds, csub. induction c as [|[b e] c IH]; cbn; auto.
  now rewrite isub_eval, IH.
Qed.
Lemma under_eval : forall k m p, map (ieval (k ++ p)) (under (length k) m) = k ++ map (ieval p) m.
Proof.
  intros k m p. unfold under. rewrite map_app. f_equal.
  - rewrite map_map. cbn. induction k as [|x k IH]; cbn; auto. f_equal.
    rewrite <- seq_shift, map_map. exact IH.
  - rewrite map_map. apply map_ext. intro e. apply ishift_eval.
Qed.
Lemma unlin_length : forall ns a, length (unlin ns a) = length ns.
Proof. induction ns; intro; cbn; auto. Qed.

Section Sound.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).
Notation denote := (denote V fn op2 start toint).
Notation program := (program V fn op2 start toint).

(** Substituting coordinates is evaluating at the mapped point. *)
Lemma ssub_sev : forall e m s p, sev s (ssub m e) p = sev s e (map (ieval p) m).
Proof.
  induction e using sx_ind'; intros m' s p; cbn.
  - f_equal. rewrite map_map. apply map_ext. intro e. apply isub_eval.
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]; cbn; auto.
  - now rewrite csub_holds, IHe1, IHe2.
  - f_equal. apply map_ext. intro k. rewrite IHe. f_equal.
    rewrite <- (unlin_length ns k). apply under_eval.
  - rewrite IHe. f_equal.
    assert (E : map (fun a => sev s a p) (map (ssub m') l) = map (fun a => sev s a (map (ieval p) m')) l).
    { rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]; cbn; auto. }
    rewrite E. set (vs := map toint (map (fun a => sev s a (map (ieval p) m')) l)).
    replace (length l) with (length vs) by (unfold vs; now rewrite !map_length). apply under_eval.
Qed.
End Sound.

(** ** Inlining a program: every stage's tree over what is read from outside *)
Fixpoint inl (env : PM.t sx) (e : sx) : sx :=
  match e with
  | Ld t m => match PM.find t env with Some b => ssub m b | None => Ld t m end
  | Fn f l => Fn f (map (inl env) l)
  | Gd c a b => Gd c (inl env a) (inl env b)
  | Fd op i ns b => Fd op i ns (inl env b)
  | Ga l b => Ga (map (inl env) l) (inl env b)
  end.
Definition inline_program (P : prog) : PM.t sx :=
  fold_left (fun env d => PM.add (fst d) (inl env (snd d)) env) P (PM.empty _).

Section Inline.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).
Notation denote := (denote V fn op2 start toint).
Notation program := (program V fn op2 start toint).

Definition env_ok (s s' : store V) (env : PM.t sx) : Prop :=
  forall t, s' t = match PM.find t env with Some b => (fun p => sev s b p) | None => s t end.
Lemma inl_sev : forall e s s' env p, env_ok s s' env -> sev s (inl env e) p = sev s' e p.
Proof.
  induction e using sx_ind'; intros s s' env p E; cbn.
  - rewrite (E t). destruct (PM.find t env) as [b|]; [apply ssub_sev|reflexivity].
  - f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]; cbn; eauto.
  - now rewrite (IHe1 s s'), (IHe2 s s').
  - f_equal. apply map_ext. intro k. now rewrite (IHe s s').
  - rewrite (IHe s s') by auto. do 3 f_equal. rewrite map_map. apply map_ext_Forall.
    eapply Forall_impl; [|exact H]; cbn; eauto.
Qed.
(** Running the stages one by one and evaluating the inlined trees agree. *)
Theorem inline_program_sound : forall P s, env_ok s (run s (program P)) (inline_program P).
Proof.
  intros P s. unfold inline_program.
  assert (X : forall P s1 env, env_ok s s1 env ->
    env_ok s (run s1 (program P)) (fold_left (fun env d => PM.add (fst d) (inl env (snd d)) env) P env)).
  { clear P. induction P as [|[t b] P IH]; intros s1 env E; cbn; auto.
    apply IH. intro u. unfold exec, upd; cbn. destruct (Pos.eqb_spec u t) as [->|N].
    - rewrite PM.gss. extensionality p. rewrite denote_sev. symmetry. now apply inl_sev.
    - rewrite PM.gso by auto. apply E. }
  apply X. intro t. now rewrite PM.gempty.
Qed.
End Inline.

(** ** Where an expression is evaluated
    A box of coordinates ([None]: not known), and the guards around it with their truth. *)
Definition hyps := list (list cond * bool).
Definition ctx := (option (list Z) * hyps)%type.
Definition hold_hyps (H : hyps) (p : idx) : bool := forallb (fun h => Bool.eqb (holds (fst h) p) (snd h)) H.
Definition in_ctx (x : ctx) (p : idx) : Prop :=
  match fst x with Some b => inbox b p | None => True end /\ hold_hyps (snd x) p = true.

Fixpoint from (n : nat) (a : Z) : list Z := match n with O => [] | S m => a :: from m (a + 1) end.
Fixpoint all_points (box : list Z) (f : idx -> bool) : bool :=
  match box with
  | [] => f []
  | n :: r => forallb (fun x => all_points r (fun p => f (x :: p))) (from (Z.to_nat n) 0)
  end.
Lemma in_from : forall n a x, a <= x < a + Z.of_nat n -> In x (from n a).
Proof.
  induction n as [|n IH]; intros a x H; [lia|]. cbn [from].
  destruct (Z.eq_dec a x); [now left|]. right. apply IH. lia.
Qed.
Lemma all_points_sound : forall box f, all_points box f = true -> forall p, inbox box p -> f p = true.
Proof.
  induction box as [|n box IH]; intros f H [|x p] Hp; cbn in *; try contradiction; auto.
  destruct Hp as [Hx Hp]. rewrite forallb_forall in H.
  apply (IH (fun p => f (x :: p))); auto. apply H. apply in_from. lia.
Qed.

Section Limit.
Variable limit : Z.                                      (* points evaluated at most *)
(** [f] at every point of the context, when these are few enough. *)
Definition decide (x : ctx) (f : idx -> bool) : bool :=
  match fst x with
  | Some b => (prod b <=? limit) && all_points b (fun p => implb (hold_hyps (snd x) p) (f p))
  | None => false
  end.
Lemma decide_sound : forall x f, decide x f = true -> forall p, in_ctx x p -> f p = true.
Proof.
  intros [[b|] H] f E p [Hb Hh]; cbn in *; [|discriminate]. apply andb_true_iff in E. destruct E as [_ E].
  pose proof (all_points_sound _ _ E p Hb) as G. cbn in G. now rewrite Hh in G.
Qed.

(** *** Equal index expressions: the same, the same affine form, or equal at every point *)
Fixpoint ix_eqb (a b : ix) : bool :=
  match a, b with
  | D i, D j => Nat.eqb i j
  | C y, C z => y =? z
  | Add a a', Add b b' => ix_eqb a b && ix_eqb a' b'
  | Mul a c, Mul b d | Div a c, Div b d | Mod a c, Mod b d => ix_eqb a b && (c =? d)
  | _, _ => false
  end.
Lemma ix_eqb_eq : forall a b, ix_eqb a b = true -> a = b.
Proof.
  induction a; destruct b; cbn; intro H; try discriminate;
  rewrite ?andb_true_iff, ?Nat.eqb_eq, ?Z.eqb_eq in H; try (destruct H); f_equal; auto.
Qed.
Fixpoint dot (cs : list Z) (p : idx) : Z := match cs with [] => 0 | c :: r => c * hd 0 p + dot r (tl p) end.
Fixpoint plus (a b : list Z) : list Z :=
  match a, b with [], _ => b | _, [] => a | x :: a', y :: b' => x + y :: plus a' b' end.
Fixpoint affine (e : ix) : option (list Z * Z) :=
  match e with
  | D i => Some (repeat 0 i ++ [1], 0)
  | C z => Some ([], z)
  | Add a b => match affine a, affine b with Some (k, z), Some (l, y) => Some (plus k l, z + y) | _, _ => None end
  | Mul a c => match affine a with Some (k, z) => Some (map (Z.mul c) k, z * c) | None => None end
  | _ => None
  end.
Fixpoint all_zero (a : list Z) : bool := match a with [] => true | x :: r => (x =? 0) && all_zero r end.
Fixpoint same_coefficients (a b : list Z) : bool :=
  match a, b with
  | [], _ => all_zero b
  | _, [] => all_zero a
  | x :: a', y :: b' => (x =? y) && same_coefficients a' b'
  end.
Lemma dot_unit : forall i p, dot (repeat 0 i ++ [1]) p = nth i p 0.
Proof.
  induction i as [|i IH]; intros p; cbn [repeat app dot].
  - destruct p; cbn [hd nth]; lia.
  - rewrite IH. destruct p; cbn [hd tl nth]; [destruct i|]; lia.
Qed.
Lemma dot_plus : forall a b p, dot (plus a b) p = dot a p + dot b p.
Proof. induction a as [|x a IH]; intros [|y b] p; cbn; rewrite ?IH; lia. Qed.
Lemma dot_scale : forall c a p, dot (map (Z.mul c) a) p = dot a p * c.
Proof. induction a as [|x a IH]; intros p; cbn [map dot]; rewrite ?IH; lia. Qed.
Lemma affine_sound : forall e k z p, affine e = Some (k, z) -> ieval p e = dot k p + z.
Proof.
  induction e; intros k z' p H; cbn in *; try discriminate.
  - inversion H; subst. rewrite dot_unit. lia.
  - inversion H; subst. reflexivity.
  - destruct (affine e1) as [[k1 z1]|]; [|discriminate]. destruct (affine e2) as [[k2 z2]|]; [|discriminate].
    inversion H; subst. rewrite (IHe1 _ _ p eq_refl), (IHe2 _ _ p eq_refl), dot_plus. lia.
  - destruct (affine e) as [[k1 z1]|]; [|discriminate]. inversion H; subst.
    rewrite (IHe _ _ p eq_refl), dot_scale. lia.
Qed.
Lemma all_zero_sound : forall a p, all_zero a = true -> dot a p = 0.
Proof.
  induction a as [|x a IH]; intros p H; cbn in *; auto. apply andb_true_iff in H. destruct H as [H1 H2].
  apply Z.eqb_eq in H1. rewrite IH by auto. lia.
Qed.
Lemma same_coefficients_sound : forall a b p, same_coefficients a b = true -> dot a p = dot b p.
Proof.
  induction a as [|x a IH]; intros b p H; cbn [same_coefficients] in H.
  - now rewrite (all_zero_sound _ p H).
  - destruct b as [|y b]; [now rewrite (all_zero_sound _ p H)|].
    apply andb_true_iff in H. destruct H as [H1 H2]. apply Z.eqb_eq in H1. cbn. rewrite (IH b (tl p)) by auto. lia.
Qed.
Definition ix_same (x : ctx) (a b : ix) : bool :=
  ix_eqb a b
  || match affine a, affine b with Some (k, y), Some (l, z) => same_coefficients k l && (y =? z) | _, _ => false end
  || decide x (fun p => ieval p a =? ieval p b).
Lemma ix_same_sound : forall x a b p, ix_same x a b = true -> in_ctx x p -> ieval p a = ieval p b.
Proof.
  intros x a b p H Hp. unfold ix_same in H. apply orb_true_iff in H. destruct H as [H|H].
  - apply orb_true_iff in H. destruct H as [H|H]; [apply ix_eqb_eq in H; now subst|].
    destruct (affine a) as [[k y]|] eqn:Ea; [|discriminate]. destruct (affine b) as [[l z]|] eqn:Eb; [|discriminate].
    apply andb_true_iff in H. destruct H as [H1 H2]. apply Z.eqb_eq in H2.
    rewrite (affine_sound _ _ _ p Ea), (affine_sound _ _ _ p Eb), (same_coefficients_sound _ _ p H1). lia.
  - pose proof (decide_sound _ _ H p Hp) as G. cbn in G. now apply Z.eqb_eq.
Qed.
Fixpoint ixs_same (x : ctx) (a b : list ix) : bool :=
  match a, b with [], [] => true | e :: a', f :: b' => ix_same x e f && ixs_same x a' b' | _, _ => false end.
Lemma ixs_same_sound : forall x a b p, ixs_same x a b = true -> in_ctx x p -> map (ieval p) a = map (ieval p) b.
Proof.
  induction a as [|e a IH]; intros [|f b] p H Hp; cbn in *; try discriminate; auto.
  apply andb_true_iff in H. destruct H as [H1 H2]. f_equal; [eapply ix_same_sound; eauto|auto].
Qed.
Fixpoint conds_eqb (x : ctx) (c d : list cond) : bool :=
  match c, d with
  | [], [] => true
  | (b, e) :: c', (b', f) :: d' => Bool.eqb b b' && ix_same x e f && conds_eqb x c' d'
  | _, _ => false
  end.
Definition conds_same (x : ctx) (c d : list cond) : bool :=
  conds_eqb x c d || decide x (fun p => Bool.eqb (holds c p) (holds d p)).
Lemma conds_same_sound : forall x c d p, conds_same x c d = true -> in_ctx x p -> holds c p = holds d p.
Proof.
  intros x c d p H Hp. unfold conds_same in H. apply orb_true_iff in H. destruct H as [H|H].
  - unfold holds. revert d H. induction c as [|[b e] c IH]; intros [|[b' f] d] H; cbn in *; try discriminate; auto.
    rewrite !andb_true_iff in H. destruct H as [[H1 H2] H3]. apply eqb_prop in H1. subst.
    rewrite (ix_same_sound _ _ _ p H2 Hp), (IH _ H3). reflexivity.
  - pose proof (decide_sound _ _ H p Hp) as G. cbn in G. now apply eqb_prop.
Qed.

(** *** Equal trees *)
Inductive body_condition := B_COMPOSE | B_ORDER | B_ROUND | B_ROW | B_BOUNDS.
Definition shift_hyps (n : nat) (H : hyps) : hyps :=
  map (fun h => (map (fun b : cond => (fst b, ishift n (snd b))) (fst h), snd h)) H.
Definition below (ns : list Z) (x : ctx) : ctx :=
  (match fst x with Some b => Some (ns ++ b) | None => None end, shift_hyps (length ns) (snd x)).
Definition below_unknown (n : nat) (x : ctx) : ctx := (None, shift_hyps n (snd x)).
Definition assume (c : list cond) (v : bool) (x : ctx) : ctx := (fst x, (c, v) :: snd x).

Fixpoint zs_eqb (a b : list Z) : bool :=
  match a, b with [], [] => true | x :: a', y :: b' => (x =? y) && zs_eqb a' b' | _, _ => false end.
Lemma zs_eqb_eq : forall a b, zs_eqb a b = true -> a = b.
Proof.
  induction a as [|x a IH]; intros [|y b] H; cbn in H; try discriminate; auto.
  apply andb_true_iff in H. destruct H as [H1 H2]. apply Z.eqb_eq in H1. f_equal; auto.
Qed.
Fixpoint cmp (x : ctx) (a b : sx) {struct a} : option body_condition :=
  let fix cmp_list (l k : list sx) {struct l} : option body_condition :=
    match l, k with
    | [], [] => None
    | a :: l', b :: k' => match cmp x a b with None => cmp_list l' k' | r => r end
    | _, _ => Some B_ROUND
    end in
  match a, b with
  | Ld t m, Ld u n => if Pos.eqb t u && ixs_same x m n then None else Some B_COMPOSE
  | Fn f l, Fn g k => if Pos.eqb f g then cmp_list l k else Some B_ROUND
  | Gd c a1 a2, Gd d b1 b2 =>
      if conds_same x c d then
        match cmp (assume c true x) a1 b1 with None => cmp (assume c false x) a2 b2 | r => r end
      else Some B_COMPOSE
  | Fd o i ns e, Fd o' i' ns' e' =>
      if Pos.eqb o o' && Pos.eqb i i' && zs_eqb ns ns' && forallb (Z.ltb 0) ns then cmp (below ns x) e e' else Some B_ORDER
  | Ga l e, Ga k f =>
      match cmp_list l k with None => cmp (below_unknown (length l) x) e f | r => r end
  | Fd _ _ _ _, _ | _, Fd _ _ _ _ => Some B_ORDER
  | Gd _ _ _, _ | _, Gd _ _ _ => Some B_COMPOSE
  | Fn _ _, _ | _, Fn _ _ => Some B_ROUND
  | _, _ => Some B_COMPOSE
  end.

Lemma shift_holds : forall c k p, holds (map (fun b : cond => (fst b, ishift (length k) (snd b))) c) (k ++ p) = holds c p.
Proof.
  intros c k p. unfold holds. induction c as [|[b e] c IH]; cbn; auto. now rewrite ishift_eval, IH.
Qed.
Lemma shift_hyps_hold : forall H k p, hold_hyps (shift_hyps (length k) H) (k ++ p) = hold_hyps H p.
Proof.
  intros H k p. unfold hold_hyps, shift_hyps. induction H as [|[c v] H IH]; cbn [map forallb fst snd]; auto.
  now rewrite shift_holds, IH.
Qed.
Lemma assume_in : forall c x p, in_ctx x p -> in_ctx (assume c (holds c p) x) p.
Proof.
  intros c x p [A B]. split; auto. unfold hold_hyps in *. cbn [assume snd forallb fst]. now rewrite eqb_reflx, B.
Qed.
Lemma positive_of : forall ns, forallb (Z.ltb 0) ns = true -> positive_all ns.
Proof. intros ns H. apply Forall_forall. rewrite forallb_forall in H. intros n Hn. apply H in Hn. now apply Z.ltb_lt. Qed.
Lemma below_in : forall ns x k p, forallb (Z.ltb 0) ns = true -> In k (fold_points ns) -> in_ctx x p ->
  in_ctx (below ns x) (unlin ns k ++ p).
Proof.
  intros ns [b H] k p Hn Hk [A B]. apply positive_of in Hn. split; cbn [below fst snd] in *.
  - destruct b as [b|]; auto. apply inbox_app; auto. apply lin_unlin; auto.
    unfold fold_points in Hk. apply in_zrange in Hk. pose proof (prod_pos _ Hn). lia.
  - rewrite <- (unlin_length ns k), shift_hyps_hold. exact B.
Qed.
Lemma unknown_in : forall x k p, in_ctx x p -> in_ctx (below_unknown (length k) x) (k ++ p).
Proof. intros x k p [A B]. split; [exact I|]. cbn [below_unknown snd]. now rewrite shift_hyps_hold. Qed.

(** *** Guards that the context decides
    A composed map often carries a guard that an outer guard already implies, or lost it for
    that reason.  [prune] drops what the context decides, on both sides. *)
Definition same_cond (x : ctx) (a b : cond) : bool := Bool.eqb (fst a) (fst b) && ix_same x (snd a) (snd b).
Definition implied (x : ctx) (b : cond) : bool :=
  existsb (fun h : list cond * bool => snd h && existsb (same_cond x b) (fst h)) (snd x) || decide x (holds [b]).
Definition refuted (x : ctx) (c : list cond) : bool :=
  existsb (fun h : list cond * bool => negb (snd h) && conds_eqb x c (fst h)) (snd x) || decide x (fun p => negb (holds c p)).
Definition needed (x : ctx) (c : list cond) : list cond := filter (fun b => negb (implied x b)) c.
Fixpoint prune (x : ctx) (e : sx) : sx :=
  match e with
  | Ld t m => Ld t m
  | Fn f l => Fn f (map (prune x) l)
  | Gd c a b =>
      let c' := needed x c in
      match c' with
      | [] => prune x a
      | _ => if refuted x c' then prune x b else Gd c' (prune (assume c' true x) a) (prune (assume c' false x) b)
      end
  | Fd op i ns b => Fd op i ns (if forallb (Z.ltb 0) ns then prune (below ns x) b else b)
  | Ga l b => Ga (map (prune x) l) (prune (below_unknown (length l) x) b)
  end.

Definition cond_holds (b : cond) (p : idx) : bool := if fst b then 0 <=? ieval p (snd b) else ieval p (snd b) =? 0.
Lemma same_cond_sound : forall x a b p, same_cond x a b = true -> in_ctx x p -> cond_holds a p = cond_holds b p.
Proof.
  intros x [a e] [b f] p H Hp. unfold same_cond in H. cbn in H. apply andb_true_iff in H. destruct H as [H1 H2].
  apply eqb_prop in H1. subst. unfold cond_holds. cbn. now rewrite (ix_same_sound _ _ _ p H2 Hp).
Qed.
Lemma implied_sound : forall x b p, implied x b = true -> in_ctx x p -> cond_holds b p = true.
Proof.
  intros x b p H Hp. unfold implied in H. apply orb_true_iff in H. destruct H as [H|H].
  - apply existsb_exists in H. destruct H as ([h v] & Hin & H). cbn in H. apply andb_true_iff in H.
    destruct H as [Hv H]. subst. apply existsb_exists in H. destruct H as (b' & Hb & H).
    rewrite (same_cond_sound _ _ _ p H Hp). destruct Hp as [_ Hh]. unfold hold_hyps in Hh.
    rewrite forallb_forall in Hh. apply Hh in Hin. cbn in Hin. apply eqb_prop in Hin. unfold holds in Hin.
    rewrite forallb_forall in Hin. exact (Hin b' Hb).
  - pose proof (decide_sound _ _ H p Hp) as G. cbn in G. now rewrite andb_true_r in G.
Qed.
Lemma conds_eqb_sound : forall x c d p, conds_eqb x c d = true -> in_ctx x p -> holds c p = holds d p.
Proof. intros x c d p H. apply conds_same_sound. unfold conds_same. now rewrite H. Qed.
Lemma refuted_sound : forall x c p, refuted x c = true -> in_ctx x p -> holds c p = false.
Proof.
  intros x c p H Hp. unfold refuted in H. apply orb_true_iff in H. destruct H as [H|H].
  - apply existsb_exists in H. destruct H as ([h v] & Hin & H). cbn in H. apply andb_true_iff in H.
    destruct H as [Hv H]. apply negb_true_iff in Hv. subst. rewrite (conds_eqb_sound _ _ _ p H Hp).
    destruct Hp as [_ Hh]. unfold hold_hyps in Hh. rewrite forallb_forall in Hh. apply Hh in Hin. cbn in Hin.
    now apply eqb_prop in Hin.
  - pose proof (decide_sound _ _ H p Hp) as G. cbn in G. now apply negb_true_iff in G.
Qed.
Lemma needed_sound : forall x c p, in_ctx x p -> holds (needed x c) p = holds c p.
Proof.
  intros x c p Hp. induction c as [|b c IH]; [reflexivity|]. cbn [needed filter].
  change (holds (b :: c) p) with (cond_holds b p && holds c p). destruct (implied x b) eqn:E; cbn [negb].
  - rewrite (implied_sound _ _ p E Hp). exact IH.
  - change (holds (b :: filter (fun b => negb (implied x b)) c) p)
      with (cond_holds b p && holds (needed x c) p). now rewrite IH.
Qed.

Section Prune.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).
(** Pruning changes no value in the context. *)
Theorem prune_sound : forall e x s p, in_ctx x p -> sev s (prune x e) p = sev s e p.
Proof.
  induction e using sx_ind'; intros x s p Hp; cbn [prune]; auto.
  - cbn. f_equal. rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. cbn. auto.
  - pose proof (needed_sound x c p Hp) as N. cbn [Bodies.sev]. rewrite <- N.
    destruct (needed x c) as [|b c'] eqn:EN; [cbn; auto|].
    destruct (refuted x (b :: c')) eqn:ER; [rewrite (refuted_sound _ _ p ER Hp); auto|].
    cbn [Bodies.sev]. pose proof (assume_in (b :: c') x p Hp) as A. destruct (holds (b :: c') p); auto.
  - cbn. f_equal. apply map_ext_in. intros k Hk. destruct (forallb (Z.ltb 0) ns) eqn:EN; [|reflexivity].
    apply IHe. now apply below_in.
  - cbn. assert (E : map (fun a => sev s a p) (map (prune x) l) = map (fun a => sev s a p) l).
    { rewrite map_map. apply map_ext_Forall. eapply Forall_impl; [|exact H]. cbn. auto. }
    rewrite E. apply IHe. set (vs := map toint (map (fun a => sev s a p) l)).
    replace (length l) with (length vs) by (unfold vs; now rewrite !map_length). now apply unknown_in.
Qed.
End Prune.

Section Equal.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).

Lemma cmp_list_sound : forall x l k,
  Forall (fun a => forall x b, cmp x a b = None -> forall s p, in_ctx x p -> sev s a p = sev s b p) l ->
  (fix cmp_list (l k : list sx) {struct l} : option body_condition :=
    match l, k with
    | [], [] => None
    | a :: l', b :: k' => match cmp x a b with None => cmp_list l' k' | r => r end
    | _, _ => Some B_ROUND
    end) l k = None ->
  forall s p, in_ctx x p -> map (fun a => sev s a p) l = map (fun a => sev s a p) k.
Proof.
  intros x l. induction l as [|a l IH]; intros [|b k] HF H s p Hp; try discriminate; auto.
  inversion HF; subst. destruct (cmp x a b) eqn:E; [discriminate|]. cbn. f_equal; eauto.
Qed.
(** C-COMPOSE, C-ORDER, C-ROUND: trees that compare equal have equal values at every
    point of the context, bit for bit. *)
Theorem cmp_sound : forall a x b, cmp x a b = None -> forall s p, in_ctx x p -> sev s a p = sev s b p.
Proof.
  induction a using sx_ind'; intros x b' E s p Hp; destruct b'; cbn in E; try discriminate.
  - destruct (Pos.eqb t t0) eqn:Et; [|discriminate]. apply Pos.eqb_eq in Et. subst.
    destruct (ixs_same x m m0) eqn:Em; [|discriminate]. cbn. f_equal. eapply ixs_same_sound; eauto.
  - destruct (Pos.eqb f f0) eqn:Ef; [|discriminate]. apply Pos.eqb_eq in Ef. subst. cbn. f_equal.
    eapply cmp_list_sound; eauto.
  - destruct (conds_same x c c0) eqn:Ec; [|discriminate]. pose proof (conds_same_sound _ _ _ _ Ec Hp) as Hc.
    destruct (cmp (assume c true x) a1 b'1) eqn:E1; [discriminate|].
    pose proof (assume_in c x p Hp) as Ha. cbn. rewrite <- Hc. destruct (holds c p); eauto.
  - destruct (Pos.eqb op op0) eqn:E1; [|discriminate]. destruct (Pos.eqb i init) eqn:E2; [|discriminate].
    destruct (zs_eqb ns ns0) eqn:E3; [|discriminate]. destruct (forallb (Z.ltb 0) ns) eqn:E4; [|discriminate].
    apply Pos.eqb_eq in E1. apply Pos.eqb_eq in E2. apply zs_eqb_eq in E3. subst. cbn in *. f_equal.
    apply map_ext_in. intros k Hk. eapply IHa; eauto. now apply below_in.
  - match type of E with match ?c with _ => _ end = None => destruct c eqn:El; [discriminate|] end.
    cbn. rewrite (cmp_list_sound x l vals H El s p Hp). eapply IHa; eauto.
    pose proof (cmp_list_sound x l vals H El s p Hp) as L. rewrite <- L.
    set (vs := map toint (map (fun a => sev s a p) l)).
    replace (length l) with (length vs) by (unfold vs; now rewrite !map_length). now apply unknown_in.
Qed.
End Equal.

(** *** Rows and bounds *)
(** An interval of an index expression over a box. *)
Fixpoint range (box : list Z) (e : ix) : option (Z * Z) :=
  match e with
  | D i => match nth_error box i with Some n => Some (0, n - 1) | None => None end
  | C z => Some (z, z)
  | Add a b => match range box a, range box b with Some (l, h), Some (l', h') => Some (l + l', h + h') | _, _ => None end
  | Mul a c => match range box a with
               | Some (l, h) => if 0 <=? c then Some (l * c, h * c) else Some (h * c, l * c) | None => None end
  | Div a c => match range box a with
               | Some (l, h) => if 0 <? c then Some (l / c, h / c) else None | None => None end
  | Mod a c => if 0 <? c then Some (0, c - 1) else None
  end.
Lemma range_sound : forall box p, inbox box p -> forall e l h, range box e = Some (l, h) -> l <= ieval p e <= h.
Proof.
  intros box p Hp. induction e; intros l h H; cbn in *.
  - destruct (nth_error box i) as [n|] eqn:En; [|discriminate]. inversion H; subst.
    apply inbox_nth in Hp. destruct Hp as [_ Hp].
    assert (Hi : (i < length box)%nat) by (apply nth_error_Some; congruence).
    specialize (Hp i Hi). apply nth_error_nth with (d := 0) in En. lia.
  - inversion H; subst. lia.
  - destruct (range box e1) as [[l1 h1]|]; [|discriminate]. destruct (range box e2) as [[l2 h2]|]; [|discriminate].
    inversion H; subst. specialize (IHe1 _ _ eq_refl). specialize (IHe2 _ _ eq_refl). lia.
  - destruct (range box e) as [[l1 h1]|]; [|discriminate]. specialize (IHe _ _ eq_refl).
    destruct (Z.leb_spec 0 c); inversion H; subst; nia.
  - destruct (range box e) as [[l1 h1]|]; [|discriminate]. specialize (IHe _ _ eq_refl).
    destruct (Z.ltb_spec 0 c); inversion H; subst. split; apply Z.div_le_mono; lia.
  - destruct (Z.ltb_spec 0 c); inversion H; subst. pose proof (Z.mod_pos_bound (ieval p e) c). lia.
Qed.
Definition in_bounds (x : ctx) (e : ix) (n : Z) : bool :=
  match fst x with
  | Some b => match range b e with Some (l, h) => (0 <=? l) && (h <? n) | None => false end
  | None => false
  end || decide x (fun p => (0 <=? ieval p e) && (ieval p e <? n)).
Fixpoint all_in_bounds (x : ctx) (m : list ix) (shape : list Z) : bool :=
  match m, shape with [], [] => true | e :: m', n :: s' => in_bounds x e n && all_in_bounds x m' s' | _, _ => false end.
Lemma in_bounds_sound : forall x e n p, in_bounds x e n = true -> in_ctx x p -> 0 <= ieval p e < n.
Proof.
  intros [b H] e n p E Hp. unfold in_bounds in E. apply orb_true_iff in E. destruct E as [E|E].
  - destruct Hp as [Hb _]. cbn in *. destruct b as [b|]; [|discriminate]. destruct (range b e) as [[l h]|] eqn:R; [|discriminate].
    pose proof (range_sound _ _ Hb _ _ _ R). rewrite andb_true_iff, Z.leb_le, Z.ltb_lt in E. lia.
  - pose proof (decide_sound _ _ E p Hp) as G. cbn in G. rewrite andb_true_iff, Z.leb_le, Z.ltb_lt in G. lia.
Qed.
Lemma all_in_bounds_sound : forall x m shape p, all_in_bounds x m shape = true -> in_ctx x p ->
  inbox shape (map (ieval p) m).
Proof.
  induction m as [|e m IH]; intros [|n s] p H Hp; cbn in *; try discriminate; auto.
  apply andb_true_iff in H. destruct H as [H1 H2]. split; [eapply in_bounds_sound; eauto|auto].
Qed.
(** The row part of a read: coordinates d, d+1, .. of the point, unchanged. *)
Fixpoint row_part (d rows : nat) (m : list ix) : bool :=
  match rows, m with
  | O, _ => true
  | S r, e :: m' => ix_eqb e (D d) && row_part (S d) r m'
  | _, _ => false
  end.
Fixpoint sreads (f : id -> bool) (e : sx) : bool :=
  match e with
  | Ld t _ => f t
  | Fn _ l => existsb (sreads f) l
  | Gd _ a b => sreads f a || sreads f b
  | Fd _ _ _ b => sreads f b
  | Ga l b => existsb (sreads f) l || sreads f b
  end.
(** [d] coordinates are bound around the stage's own; the row is the stage's first [rows]. *)
Fixpoint check_rows (shapes : PM.t (list Z)) (rows d : nat) (x : ctx) (e : sx) {struct e} : option body_condition :=
  let fix check_list (l : list sx) : option body_condition :=
    match l with
    | [] => None
    | a :: l' => match check_rows shapes rows d x a with None => check_list l' | r => r end
    end in
  match e with
  | Ld t m => match PM.find t shapes with
              | None => None
              | Some shape => if negb (row_part d rows m) then Some B_ROW
                              else if all_in_bounds x m shape then None else Some B_BOUNDS
              end
  | Fn _ l => check_list l
  | Gd c a b => match check_rows shapes rows d (assume c true x) a with
                | None => check_rows shapes rows d (assume c false x) b | r => r end
  | Fd _ _ ns b => if forallb (Z.ltb 0) ns then check_rows shapes rows (length ns + d) (below ns x) b else Some B_ORDER
  | Ga l b => if sreads (fun u => PM.mem u shapes) b then Some B_ROW else check_list l
  end.

Section RowSound.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).
Notation denote := (denote V fn op2 start toint).
Variable shapes : PM.t (list Z).
Variable rows : nat.

Definition dom_of (t : id) (p : idx) : Prop := match PM.find t shapes with Some s => inbox s p | None => False end.
Definition row_of (_ : id) (p : idx) : idx := firstn rows p.
Definition internal_of (t : id) : bool := PM.mem t shapes.

Lemma reads_rebase : forall (e : expr V) psi u, reads (rebase psi e) u <-> reads e u.
Proof.
  assert (X : forall l psi u, Forall (fun e : expr V => forall psi u, reads (rebase psi e) u <-> reads e u) l ->
    (fold_right (fun a acc => reads a u \/ acc) False (map (rebase psi) l) <-> fold_right (fun a acc => reads a u \/ acc) False l)).
  { intros l psi u H. induction H as [|a l Ha H IH]; cbn; [tauto|]. rewrite (Ha psi u), IH. tauto. }
  induction e using expr_ind'; intros psi u; cbn; try tauto.
  - now apply X.
  - now rewrite IHe1, IHe2.
  - apply IHe.
  - now rewrite (X _ _ _ H).
Qed.
Lemma aligned_rebase : forall (e : expr V) psi (P P' : idx -> Prop) (rho rho' : idx -> idx),
  (forall q, P q -> P' (psi q) /\ rho' (psi q) = rho q) ->
  aligned row_of dom_of internal_of P' rho' e -> aligned row_of dom_of internal_of P rho (rebase psi e).
Proof.
  induction e using expr_ind'; intros psi P P' rho rho' HP HA; cbn in *.
  - intros Hi p Hp. destruct (HP p Hp) as [A B]. destruct (HA Hi _ A). split; auto. congruence.
  - rewrite aligned_args in *. intros a Ha. apply in_map_iff in Ha. destruct Ha as (a' & <- & Ha).
    rewrite Forall_forall in H. eapply H; eauto.
  - destruct HA as [A B]. split.
    + eapply IHe1; [|exact A]. cbn. intros q [Hq Hc]. destruct (HP q Hq). auto.
    + eapply IHe2; [|exact B]. cbn. intros q [Hq Hc]. destruct (HP q Hq). auto.
  - eapply IHe; [|exact HA]. cbn. intros q (k & p & -> & Hp & Hk). destruct (HP p Hp). split; auto.
    exists k, (psi p). auto.
  - destruct HA as [A B]. split; auto. rewrite aligned_args in *. intros a Ha. apply in_map_iff in Ha.
    destruct Ha as (a' & <- & Ha). rewrite Forall_forall in H. eapply H; eauto.
Qed.
Lemma skipn_cons : forall d (p : idx), (d < length p)%nat -> skipn d p = nth d p 0 :: skipn (S d) p.
Proof.
  induction d as [|d IH]; intros [|x p] H; cbn [length] in H; try lia; [reflexivity|].
  cbn [skipn nth]. rewrite IH by lia. reflexivity.
Qed.
Lemma row_part_sound : forall r d m p, row_part d r m = true -> (d + r <= length p)%nat ->
  firstn r (map (ieval p) m) = firstn r (skipn d p).
Proof.
  induction r as [|r IH]; intros d m p H L; [reflexivity|]. destruct m as [|e m]; cbn [row_part] in H; [discriminate|].
  apply andb_true_iff in H. destruct H as [H1 H2]. apply ix_eqb_eq in H1. subst.
  rewrite (skipn_cons d p) by lia. cbn [map firstn ieval]. f_equal. apply IH; auto. lia.
Qed.
Lemma denote_reads : forall f e u, sreads f e = false -> reads (denote e) u -> f u = false.
Proof.
  intros f. assert (X : forall l u, Forall (fun e => forall u, sreads f e = false -> reads (denote e) u -> f u = false) l ->
    existsb (sreads f) l = false -> fold_right (fun a acc => reads a u \/ acc) False (map denote l) -> f u = false).
  { intros l u H. induction H as [|a l Ha H IH]; cbn; intros E R; [contradiction|].
    apply orb_false_iff in E. destruct E as [E1 E2]. destruct R; auto. }
  induction e using sx_ind'; intros u E R; cbn in *.
  - congruence.
  - eapply X; eauto.
  - apply orb_false_iff in E. destruct E, R; auto.
  - apply reads_rebase in R. auto.
  - apply orb_false_iff in E. destruct E as [E1 E2]. destruct R as [R|R]; [auto|eapply X; eauto].
Qed.

(** The context knows the stage's row: [d] bound coordinates, then the row. *)
Definition deep (x : ctx) (d : nat) : Prop := match fst x with Some b => (d + rows <= length b)%nat | None => False end.
Lemma check_list_sound : forall x d l,
  Forall (fun e => forall x d, deep x d -> check_rows shapes rows d x e = None ->
    aligned row_of dom_of internal_of (in_ctx x) (fun p => firstn rows (skipn d p)) (denote e)) l ->
  deep x d ->
  (fix check_list (l : list sx) : option body_condition :=
    match l with
    | [] => None
    | a :: l' => match check_rows shapes rows d x a with None => check_list l' | r => r end
    end) l = None ->
  fold_right (fun a acc => aligned row_of dom_of internal_of (in_ctx x) (fun p => firstn rows (skipn d p)) a /\ acc) True (map denote l).
Proof.
  intros x d l H Hd. induction H as [|a l Ha H IH]; intro E; cbn; [exact I|].
  destruct (check_rows shapes rows d x a) eqn:Ea; [discriminate|]. split; auto.
Qed.
Lemma aligned_weaken : forall (e : expr V) (P Q : idx -> Prop) rho, (forall p, Q p -> P p) ->
  aligned row_of dom_of internal_of P rho e -> aligned row_of dom_of internal_of Q rho e.
Proof.
  induction e using expr_ind'; intros P Q rho HQ HA; cbn in *.
  - intros Hi p Hp. auto.
  - rewrite aligned_args in *. rewrite Forall_forall in H. intros a Ha. eapply H; eauto.
  - destruct HA as [A B]. split; [eapply IHe1; [|exact A]|eapply IHe2; [|exact B]]; cbn; intros p [? ?]; auto.
  - eapply IHe; [|exact HA]. cbn. intros q (k & p & ? & ? & ?). exists k, p; auto.
  - destruct HA as [A B]. split; auto. rewrite aligned_args in *. rewrite Forall_forall in H. intros a Ha. eapply H; eauto.
Qed.
(** C-ROW and C-BOUNDS: an accepted stage reads the kernel's buffers in its row and inside
    their shape. *)
Theorem check_rows_sound : forall e x d, deep x d -> check_rows shapes rows d x e = None ->
  aligned row_of dom_of internal_of (in_ctx x) (fun p => firstn rows (skipn d p)) (denote e).
Proof.
  induction e using sx_ind'; intros x d Hd E; cbn in E |- *.
  - intros Hi p Hp. unfold internal_of, dom_of, row_of in *. rewrite PM.mem_find in Hi.
    destruct (PM.find t shapes) as [sh|]; [|discriminate].
    destruct (row_part d rows m) eqn:ER; cbn in E; [|discriminate].
    destruct (all_in_bounds x m sh) eqn:EB; [|discriminate]. split; [eapply all_in_bounds_sound; eauto|].
    apply row_part_sound; auto. destruct x as [[b|] H]; cbn in Hd; [|contradiction].
    destruct Hp as [Hb _]. cbn in Hb. rewrite (inbox_length _ _ Hb). exact Hd.
  - apply check_list_sound; auto.
  - destruct (check_rows shapes rows d (assume c true x) e1) eqn:E1; [discriminate|].
    split; [eapply aligned_weaken; [|apply (IHe1 (assume c true x) d); auto]
           |eapply aligned_weaken; [|apply (IHe2 (assume c false x) d); auto]];
    intros p [Hp Hc]; rewrite <- Hc; now apply assume_in.
  - destruct (forallb (Z.ltb 0) ns) eqn:EN; [|discriminate].
    eapply aligned_rebase; [|apply (IHe (below ns x) (length ns + d)%nat); auto].
    + cbn. intros q (k & p & -> & Hp & Hk). cbn [unflat tl]. split; [now apply below_in|].
      f_equal. rewrite skipn_app, unlin_length.
      replace (length ns + d - length ns)%nat with d by lia.
      rewrite skipn_all2 by (rewrite unlin_length; lia). reflexivity.
    + destruct x as [[b|] H]; cbn in *; [|contradiction]. rewrite app_length. lia.
  - destruct (sreads (fun u => PM.mem u shapes) e) eqn:ER; [discriminate|]. split.
    + intros u Hu. now apply (denote_reads (fun u => PM.mem u shapes) e u ER).
    + apply check_list_sound; auto.
Qed.
End RowSound.

(** ** The checker of one kernel *)
Definition stage := (id * (list Z * sx))%type.          (* tensor, shape, expression *)
Definition stages_prog (P : list stage) : prog := map (fun st => (fst st, snd (snd st))) P.
Definition shapes_of (P : list stage) : PM.t (list Z) :=
  fold_left (fun m (st : stage) => PM.add (fst st) (fst (snd st)) m) P (PM.empty _).
Definition has_shape (S : PM.t (list Z)) (t : id) (sh : list Z) : bool :=
  match PM.find t S with Some s => zs_eqb s sh | None => false end.

Fixpoint check_stages (S : PM.t (list Z)) (rows : nat) (P : list stage) : option (body_condition * id) :=
  match P with
  | [] => None
  | (t, (sh, e)) :: r =>
      if negb (has_shape S t sh) || negb (Nat.leb rows (length sh)) then Some (B_ROW, t)
      else match check_rows S rows 0 (Some sh, []) e with
           | Some c => Some (c, t)
           | None => check_stages S rows r
           end
  end.
Fixpoint check_results (SO SF : PM.t (list Z)) (O F : PM.t sx) (l : list (id * id)) : option (body_condition * id) :=
  match l with
  | [] => None
  | (o, f) :: r =>
      match PM.find o O, PM.find f F, PM.find f SF with
      | Some a, Some b, Some sh =>
          if has_shape SO o sh then
            let x := (Some sh, []) in
            match cmp x (prune x a) (prune x b) with Some c => Some (c, o) | None => check_results SO SF O F r end
          else Some (B_BOUNDS, o)
      | _, _, _ => Some (B_COMPOSE, o)
      end
  end.
Definition check_bodies (rows : nat) (original fused : list stage) (results : list (id * id)) : option (body_condition * id) :=
  match check_stages (shapes_of fused) rows fused with
  | Some r => Some r
  | None => check_results (shapes_of original) (shapes_of fused) (inline_program (stages_prog original))
                          (inline_program (stages_prog fused)) results
  end.

Section Kernel.
Variable V : Type.
Variables (fn : positive -> list V -> V) (op2 : positive -> V -> V -> V) (start : positive -> V) (toint : V -> Z).
Notation sev := (sev V fn op2 start toint).
Notation denote := (denote V fn op2 start toint).
Notation program := (program V fn op2 start toint).

Fixpoint inboxb (ns : list Z) (p : idx) : bool :=
  match ns, p with [], [] => true | n :: r, x :: q => (0 <=? x) && (x <? n) && inboxb r q | _, _ => false end.
Lemma inboxb_spec : forall ns p, inboxb ns p = true <-> inbox ns p.
Proof.
  induction ns as [|n ns IH]; intros [|x p]; cbn; split; intro H; try discriminate; try contradiction; auto.
  - rewrite !andb_true_iff, Z.leb_le, Z.ltb_lt, IH in H. tauto.
  - rewrite !andb_true_iff, Z.leb_le, Z.ltb_lt, IH. tauto.
Qed.
(** The points of row [r] of a buffer. *)
Definition in_row (S : PM.t (list Z)) (rows : nat) (t : id) (r p : idx) : bool :=
  match PM.find t S with
  | Some sh => inboxb sh p && if list_eq_dec Z.eq_dec (firstn rows p) r then true else false
  | None => false
  end.

Lemma check_stages_in : forall S rows P, check_stages S rows P = None -> forall t sh e, In (t, (sh, e)) P ->
  PM.find t S = Some sh /\ (rows <= length sh)%nat /\ check_rows S rows 0 (Some sh, []) e = None.
Proof.
  induction P as [|[t [sh e]] P IH]; intros H t' sh' e' Hin; [contradiction|]. cbn in H.
  destruct (has_shape S t sh) eqn:E1; cbn in H; [|discriminate].
  destruct (Nat.leb rows (length sh)) eqn:E2; cbn in H; [|discriminate].
  destruct (check_rows S rows 0 (Some sh, []) e) eqn:E3; [discriminate|].
  destruct Hin as [E|Hin]; [|eauto]. inversion E; subst. unfold has_shape in E1.
  destruct (PM.find t' S) as [s|]; [|discriminate]. apply zs_eqb_eq in E1. subst.
  apply Nat.leb_le in E2. auto.
Qed.

(** Each stage of an accepted kernel is row-aligned. *)
Theorem check_stages_sound : forall rows P, check_stages (shapes_of P) rows P = None ->
  aligned_prog (row_of rows) (dom_of (shapes_of P)) (internal_of (shapes_of P)) (program (stages_prog P)).
Proof.
  intros rows P H t b Hin. unfold program, stages_prog in Hin. rewrite map_map in Hin. apply in_map_iff in Hin.
  destruct Hin as ([t' [sh e]] & E & Hin). cbn in E. inversion E; subst.
  destruct (check_stages_in _ _ _ H _ _ _ Hin) as (F & L & R).
  split; [unfold internal_of; rewrite PM.mem_find, F; reflexivity|].
  apply (check_rows_sound V fn op2 start toint) in R; [|exact L].
  eapply aligned_weaken with (Q := dom_of (shapes_of P) t) in R; [exact R|].
  intros p Hp. unfold dom_of in Hp. rewrite F in Hp. split; [exact Hp|reflexivity].
Qed.

Lemma check_results_sound : forall SO SF O F l, check_results SO SF O F l = None -> forall o f, In (o, f) l ->
  exists a b sh, PM.find o O = Some a /\ PM.find f F = Some b /\ PM.find f SF = Some sh /\
    PM.find o SO = Some sh /\ cmp (Some sh, []) (prune (Some sh, []) a) (prune (Some sh, []) b) = None.
Proof.
  induction l as [|[o f] l IH]; intros H o' f' Hin; [contradiction|]. cbn in H.
  destruct (PM.find o O) as [a|] eqn:E1; [|discriminate]. destruct (PM.find f F) as [b|] eqn:E2; [|discriminate].
  destruct (PM.find f SF) as [sh|] eqn:E3; [|discriminate]. unfold has_shape in H.
  destruct (PM.find o SO) as [s|] eqn:E4; [|discriminate]. destruct (zs_eqb s sh) eqn:E5; [|discriminate].
  apply zs_eqb_eq in E5. subst. destruct (cmp (Some sh, []) (prune (Some sh, []) a) (prune (Some sh, []) b)) eqn:E6; [discriminate|].
  destruct Hin as [E|Hin]; [|eauto]. inversion E; subst. exists a, b, sh. auto.
Qed.

(** The theorem of the body checker: the accepted kernel, run row by row with whatever its
    buffers hold elsewhere ([junk]), computes at every point of a result what the members
    compute, bit for bit, for every meaning of functions, folds and start values. *)
Theorem check_bodies_sound : forall rows original fused results (junk : idx -> id -> tensor V) s,
  check_bodies rows original fused results = None ->
  forall o f, In (o, f) results -> exists sh,
    PM.find o (shapes_of original) = Some sh /\ PM.find f (shapes_of fused) = Some sh /\
    forall p, inbox sh p ->
      row_kernel (row_of rows) junk (in_row (shapes_of fused) rows) s (program (stages_prog fused)) f p
      = run s (program (stages_prog original)) o p.
Proof.
  intros rows original fused results junk s H o f Hin. unfold check_bodies in H.
  destruct (check_stages (shapes_of fused) rows fused) eqn:E; [discriminate|].
  destruct (check_results_sound _ _ _ _ _ H o f Hin) as (a & b & sh & Fa & Fb & Sf & So & Ec).
  exists sh. split; [auto|split; [auto|]]. intros p Hp.
  rewrite (rbr_single_kernel (row := row_of rows) (dom := dom_of (shapes_of fused))
             (internal := internal_of (shapes_of fused))).
  - rewrite (inline_program_sound V fn op2 start toint (stages_prog fused) s f).
    rewrite (inline_program_sound V fn op2 start toint (stages_prog original) s o). rewrite Fa, Fb.
    assert (Hx : in_ctx (Some sh, []) p) by (split; [exact Hp|reflexivity]).
    rewrite <- (prune_sound V fn op2 start toint a (Some sh, []) s p Hx), <- (prune_sound V fn op2 start toint b (Some sh, []) s p Hx).
    symmetry. eapply cmp_sound; [exact Ec|exact Hx].
  - intros t r q. unfold in_row, dom_of, row_of. destruct (PM.find t (shapes_of fused)) as [z|].
    + rewrite andb_true_iff, inboxb_spec. destruct (list_eq_dec Z.eq_dec (firstn rows q) r); intuition discriminate.
    + split; [discriminate|intros [[] _]].
  - now apply check_stages_sound.
  - unfold internal_of. rewrite PM.mem_find, Sf. reflexivity.
  - unfold dom_of. rewrite Sf. exact Hp.
Qed.
End Kernel.
End Limit.
