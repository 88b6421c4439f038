(** Graphs: order, kernels, grouping, contraction.

    What: a graph is a list of definitions in SSA form.  Any topological order of the
    same nodes, also with some nodes cloned, computes the same tensors
    ([order_independent], [cover_preserves]); a kernel that inlines its group and
    writes what is kept computes what the group computes; so a grouping whose order
    is topological and that keeps what is read changes no output
    ([fusion_preserves_denotation], [fusion_with_clones]).  Contracting convex sets,
    and only those, keeps a graph acyclic.

    Why: these are the graph conditions of fusion: C-SSA, C-SAME-NODES, C-LIVE, C-CONVEX. *)
Require Import List ZArith Bool Lia Permutation Relations FunctionalExtensionality.
Require Import Tensor.
Import ListNotations.
Set Implicit Arguments.

Section Prog.
Variable V : Type.
Notation prog := (list (id * expr V)).
Definition defs (P : prog) : list id := map fst P.

(** C-SSA: every id is defined once, and before it is read. *)
Inductive ssa : prog -> Prop :=
| ssa_nil : ssa []
| ssa_cons : forall t b P, ~ In t (defs P) -> ~ reads b t ->
    (forall u, reads b u -> ~ In u (defs P)) -> ssa P -> ssa ((t, b) :: P).

Lemma exec_same : forall (s : store V) t b, exec s (t, b) t = (fun p => eval s b p).
Proof. intros. unfold exec, upd; cbn. now rewrite Pos.eqb_refl. Qed.
Lemma exec_other : forall (s : store V) t b u, u <> t -> exec s (t, b) u = s u.
Proof. intros s t b u H. unfold exec, upd; cbn. apply Pos.eqb_neq in H. now rewrite H. Qed.

(** Running a program changes only what it defines. *)
Lemma run_frame : forall P s u, ~ In u (defs P) -> run s P u = s u.
Proof.
  induction P as [|[t b] P IH]; intros s u H; cbn; auto. cbn in H.
  unfold run in *; cbn. rewrite IH by tauto. apply exec_other. intuition congruence.
Qed.

(** A store solves a program when every definition holds in it, and elsewhere it
    is the store before. *)
Definition solves (s s' : store V) (P : prog) : Prop :=
  (forall t b, In (t, b) P -> forall p, s' t p = eval s' b p) /\
  (forall u, ~ In u (defs P) -> s' u = s u).

(** Running a program solves it. *)
Theorem run_solves : forall P s, ssa P -> solves s (run s P) P.
Proof.
  induction P as [|[t b] P IH]; intros s H; inversion H as [|t0 b0 P0 Ht Hb Hr HP]; subst.
  - split; cbn; intuition.
  - destruct (IH (exec s (t, b)) HP) as [Hd Hf].
    change (run s ((t, b) :: P)) with (run (exec s (t, b)) P). split.
    + intros t' b' [E|HI] p; [|auto]. inversion E; subst.
      rewrite Hf, exec_same by auto. apply eval_ext. intros u Hu. rewrite Hf by eauto.
      rewrite exec_other; auto. intros ->. contradiction.
    + intros u Hu; cbn in Hu. rewrite Hf by tauto. apply exec_other. intuition congruence.
Qed.

(** A program has one solution. *)
Theorem solution_unique : forall P s s', ssa P -> solves s s' P -> forall u, s' u = run s P u.
Proof.
  induction P as [|[t b] P IH]; intros s s' H [Hd Hf] u; inversion H as [|t0 b0 P0 Ht Hb Hr HP]; subst.
  - apply Hf; cbn; auto.
  - change (run s ((t, b) :: P)) with (run (exec s (t, b)) P). apply IH; auto.
    split; [intros; apply Hd; now right|]. intros w Hw.
    destruct (Pos.eq_dec w t) as [->|N].
    + rewrite exec_same. extensionality p. rewrite (Hd t b (or_introl eq_refl)).
      apply eval_ext. intros v Hv. apply Hf. cbn. intros [->|HI]; [contradiction|]. eapply Hr; eauto.
    + rewrite exec_other by auto. apply Hf; cbn. intuition congruence.
Qed.

(** C-SAME-NODES: two topological orders of the same nodes compute the same store. *)
Theorem order_independent : forall P Q s, ssa P -> ssa Q -> Permutation P Q ->
  forall u, run s P u = run s Q u.
Proof.
  intros P Q s HP HQ HPQ u. symmetry. apply solution_unique; auto.
  destruct (run_solves s HQ) as [Hd Hf]. split.
  - intros. apply Hd. eapply Permutation_in; eauto.
  - intros w Hw. apply Hf. intro HI; apply Hw. unfold defs in *.
    eapply Permutation_in; [|exact HI]. apply Permutation_map. now apply Permutation_sym.
Qed.

(** C-SAME-NODES with clones.  [f] says which original node a node of [Q] is a copy
    of: every node of [Q] is, up to [f], a node of [P], and no node of [P] is lost.
    Then [Q] computes at [u] what [P] computes at [f u]. *)
Definition covers (f : id -> id) (P Q : prog) : Prop :=
  (forall t b, In (t, b) Q -> In (f t, ren f b) P) /\
  (forall t, In t (defs P) -> In t (defs Q)) /\
  (forall u, ~ In u (defs Q) -> f u = u).

Theorem cover_preserves : forall f P Q s, ssa P -> ssa Q -> covers f P Q ->
  forall u, In u (defs Q) -> run s Q u = run s P (f u).
Proof.
  intros f P Q s HP HQ (Hn & Hl & Hf) u Hu.
  set (s' := fun w => if in_dec Pos.eq_dec w (defs Q) then run s P (f w) else s w).
  assert (Out : forall w, s' w = run s P (f w)).
  { intro w. unfold s'. destruct (in_dec Pos.eq_dec w (defs Q)) as [Hw|Hw]; auto.
    rewrite (Hf w Hw). symmetry. apply run_frame. intro; apply Hw; auto. }
  rewrite <- Out. symmetry. apply solution_unique; auto. split.
  - intros t b HI p. rewrite Out. destruct (run_solves s HP) as [Hd _].
    rewrite (Hd _ _ (Hn t b HI)), eval_ren. apply eval_ext. intros; symmetry; apply Out.
  - intros w Hw. unfold s'. destruct (in_dec Pos.eq_dec w (defs Q)); [contradiction|reflexivity].
Qed.

(** ** Kernels *)
(** The kernel of a group computes each kept tensor from the store before the group,
    with all members inlined. *)
Definition kernel (s : store V) (g : prog) (outs : list id) : store V :=
  fold_left (fun acc o => upd acc o (fun p => eval s (inline_all g (Load V o (fun q => q))) p)) outs s.

Lemma kernel_step : forall s g o (acc : store V),
  upd acc o (fun p => eval s (inline_all g (Load V o (fun q => q))) p) = upd acc o (run s g o).
Proof. intros. f_equal. extensionality p. now rewrite <- inline_all_correct. Qed.

Lemma kernel_spec : forall s g outs u,
  kernel s g outs u = if in_dec Pos.eq_dec u outs then run s g u else s u.
Proof.
  intros s g outs u. unfold kernel.
  assert (X : forall acc, fold_left
    (fun acc o => upd acc o (fun p => eval s (inline_all g (Load V o (fun q => q))) p)) outs acc u
    = if in_dec Pos.eq_dec u outs then run s g u else acc u).
  { induction outs as [|o outs IH]; intro acc; [reflexivity|]. cbn [fold_left].
    rewrite IH, kernel_step. unfold upd. destruct (in_dec Pos.eq_dec u outs) as [H|H].
    - destruct (in_dec Pos.eq_dec u (o :: outs)) as [_|H']; [reflexivity|]. exfalso; apply H'; now right.
    - destruct (Pos.eqb u o) eqn:E.
      + apply Pos.eqb_eq in E; subst. destruct (in_dec Pos.eq_dec o (o :: outs)) as [_|H']; [reflexivity|].
        exfalso; apply H'; now left.
      + apply Pos.eqb_neq in E. destruct (in_dec Pos.eq_dec u (o :: outs)) as [[H'|H']|_]; [congruence|tauto|reflexivity]. }
  apply X.
Qed.

(** What a group keeps, its kernel writes; nothing else changes. *)
Lemma kernel_out : forall g s outs u, In u outs -> kernel s g outs u = run s g u.
Proof. intros. rewrite kernel_spec. destruct (in_dec Pos.eq_dec u outs); [reflexivity|contradiction]. Qed.
Lemma kernel_frame : forall g s outs u, ~ In u outs -> kernel s g outs u = s u.
Proof. intros. rewrite kernel_spec. destruct (in_dec Pos.eq_dec u outs); [contradiction|reflexivity]. Qed.

(** ** Grouping *)
(** The fused program: one kernel a group, in order; a group is its nodes and what
    it keeps. *)
Definition fused (s : store V) (G : list (prog * list id)) : store V :=
  fold_left (fun acc go => kernel acc (fst go) (snd go)) G s.
Definition flat (G : list (prog * list id)) : prog := concat (map fst G).

Definition agree (L : id -> Prop) (s1 s2 : store V) : Prop := forall u, L u -> s1 u = s2 u.

(** [live Out G u]: the groups [G] or the graph's outputs [Out] need [u] from before. *)
Fixpoint live (Out : id -> Prop) (G : list (prog * list id)) (u : id) : Prop :=
  match G with
  | [] => Out u
  | (g, outs) :: r => (exists t b, In (t, b) g /\ reads b u) \/ (live Out r u /\ ~ In u (defs g))
  end.
(** C-LIVE: each group keeps what is needed after it, and only what it defines. *)
Fixpoint keeps (Out : id -> Prop) (G : list (prog * list id)) : Prop :=
  match G with
  | [] => True
  | (g, outs) :: r => (forall u, live Out r u -> In u (defs g) -> In u outs)
                      /\ (forall o, In o outs -> In o (defs g)) /\ keeps Out r
  end.

Lemma run_agree : forall g s1 s2 (L : id -> Prop),
  (forall t b, In (t, b) g -> forall u, reads b u -> L u) -> agree L s1 s2 ->
  forall u, L u \/ In u (defs g) -> run s1 g u = run s2 g u.
Proof.
  induction g as [|[t b] g IH]; intros s1 s2 L HL HA u Hu; cbn in *.
  - destruct Hu; [auto|contradiction].
  - apply IH with (L := fun w => L w \/ w = t).
    + intros t' b' HI w Hw; left; eapply HL; eauto.
    + intros w Hw. destruct (Pos.eq_dec w t) as [->|N].
      * rewrite !exec_same. extensionality p. apply eval_ext. intros v Hv. apply HA. eapply HL; eauto.
      * rewrite !exec_other by auto. destruct Hw; [auto|contradiction].
    + destruct Hu as [Hu|[Hu|Hu]]; subst; auto.
Qed.

(** C-LIVE: a grouping that keeps what is read computes the outputs of its nodes run
    one after the other. *)
Theorem fused_correct : forall G s1 s2 Out, keeps Out G -> agree (live Out G) s1 s2 ->
  agree Out (fused s1 G) (run s2 (flat G)).
Proof.
  induction G as [|[g outs] G IH]; intros s1 s2 Out HK HA; [exact HA|].
  destruct HK as (Hk & Hsub & HK).
  change (fused s1 ((g, outs) :: G)) with (fused (kernel s1 g outs) G).
  change (flat ((g, outs) :: G)) with (g ++ flat G).
  unfold run; rewrite fold_left_app. fold (run s2 g). fold (run (run s2 g) (flat G)).
  apply IH; auto. intros u Hu.
  destruct (in_dec Pos.eq_dec u (defs g)) as [Hd|Hd].
  - rewrite kernel_out by auto.
    apply run_agree with (L := live Out ((g, outs) :: G)); auto.
    intros t b HI w Hw; cbn; left; eauto.
  - rewrite kernel_frame by (intro; apply Hd; auto).
    rewrite run_frame by auto. apply HA; cbn; auto.
Qed.

(** The theorem of fusion: groups that hold exactly the graph's nodes (C-SAME-NODES),
    in an order that is topological (C-SSA, C-CONVEX), and that keep what is read
    (C-LIVE), compute the graph's outputs. *)
Theorem fusion_preserves_denotation : forall P G s Out,
  ssa P -> ssa (flat G) -> Permutation P (flat G) -> keeps Out G ->
  forall u, Out u -> fused s G u = run s P u.
Proof.
  intros P G s Out HP HG HPG HK u Hu.
  rewrite (order_independent s HP HG HPG).
  apply (@fused_correct G s s Out HK); [intros w _; reflexivity | exact Hu].
Qed.

(** The same when cheap nodes were cloned into several groups: a tensor of the fused graph
    is the tensor of the node it is a copy of. *)
Theorem fusion_with_clones : forall f P G s Out,
  ssa P -> ssa (flat G) -> covers f P (flat G) -> keeps Out G ->
  forall u, Out u -> fused s G u = run s P (f u).
Proof.
  intros f P G s Out HP HG HC HK u Hu.
  rewrite (@fused_correct G s s Out HK (fun w _ => eq_refl) u Hu).
  destruct (in_dec Pos.eq_dec u (defs (flat G))) as [H|H].
  - apply (cover_preserves s HP HG HC u H).
  - destruct HC as (_ & Hl & Hf). rewrite (Hf u H), !run_frame; auto.
Qed.
End Prog.

(** ** Contraction
    [E] is the edge relation of a graph, [S] the set of nodes that becomes one. *)
Section Contract.
Variable N : Type.
Variable E : N -> N -> Prop.
Variable S : N -> Prop.
Hypothesis S_dec : forall x, S x \/ ~ S x.
Notation "x '=>+' y" := (clos_trans N E x y) (at level 70).
Definition same (x y : N) : Prop := x = y \/ (S x /\ S y).
(** The contracted graph, on the old nodes: members of [S] are interchangeable. *)
Definition qedge (x y : N) : Prop := exists x' y', same x x' /\ same y y' /\ E x' y' /\ ~ same x y.
(** C-CONVEX: no path leaves [S] and comes back. *)
Definition convex : Prop := forall u w v, S u -> u =>+ w -> w =>+ v -> S v -> S w.
Definition acyclic (Rel : N -> N -> Prop) : Prop := forall x, ~ clos_trans N Rel x x.

Definition Estar x y := x = y \/ x =>+ y.
Lemma t_Estar : forall x y z, x =>+ y -> Estar y z -> x =>+ z.
Proof. intros x y z H [->|H']; auto. eapply t_trans; eauto. Qed.

(** A path of the contracted graph is a path of the graph, or it touches [S]: then
    it goes from its start into [S] and from [S] to its end. *)
Lemma qpath : forall x y, clos_trans N qedge x y ->
  (exists x' y', same x x' /\ same y y' /\ x' =>+ y') \/
  (exists x' y' s s', same x x' /\ same y y' /\ S s /\ S s' /\ Estar x' s /\ Estar s' y').
Proof.
  intros x y H. apply clos_trans_t1n in H. induction H as [x y Hq|x y z Hq H IH].
  - destruct Hq as (x' & y' & Hx & Hy & He & _). left; exists x', y'; auto using t_step.
  - destruct Hq as (x' & y' & Hx & Hy & He & _).
    destruct IH as [(y2 & z' & Hy2 & Hz & Hp)|(y2 & z' & s & s' & Hy2 & Hz & Hs & Hs' & H1 & H2)].
    + destruct (S_dec y) as [Sy|Sy].
      * right. exists x', z', y', y2.
        assert (S y') by (destruct Hy as [<-|[_ ?]]; auto).
        assert (S y2) by (destruct Hy2 as [<-|[_ ?]]; auto).
        repeat split; auto; right; auto using t_step.
      * destruct Hy as [<-|[? _]]; [|contradiction]. destruct Hy2 as [<-|[? _]]; [|contradiction].
        left; exists x', z'; repeat split; auto. eapply t_trans; [apply t_step|]; eauto.
    + right. destruct (S_dec y) as [Sy|Sy].
      * assert (S y') by (destruct Hy as [<-|[_ ?]]; auto).
        exists x', z', y', s'. repeat split; auto. right; auto using t_step.
      * destruct Hy as [<-|[? _]]; [|contradiction]. destruct Hy2 as [<-|[? _]]; [|contradiction].
        exists x', z', s, s'. repeat split; auto. right. eapply t_Estar; [apply t_step; eauto|auto].
Qed.

(** C-CONVEX suffices: contracting a convex set of an acyclic graph leaves it acyclic. *)
Theorem convex_contract_acyclic : acyclic E -> convex -> acyclic qedge.
Proof.
  intros HA HC.
  assert (X : forall x, ~ S x -> ~ clos_trans N qedge x x).
  { intros x Sx Hq.
    destruct (qpath Hq) as [(x' & y' & Hx & Hy & Hp)|(x' & y' & s & s' & Hx & Hy & Hs & Hs' & H1 & H2)];
    (destruct Hx as [<-|[? _]]; [|contradiction]); (destruct Hy as [<-|[? _]]; [|contradiction]).
    - exact (HA x Hp).
    - destruct H1 as [->|H1]; [contradiction|]. destruct H2 as [->|H2]; [contradiction|].
      apply Sx. eapply HC; [exact Hs'|exact H2|exact H1|exact Hs]. }
  intros x Hq. destruct (S_dec x) as [Sx|Sx]; [|exact (X x Sx Hq)].
  apply clos_trans_t1n in Hq. inversion Hq as [y Hs|y z Hs Hr]; subst.
  - destruct Hs as (? & ? & _ & _ & _ & Hn). apply Hn; left; reflexivity.
  - assert (Sy : ~ S y). { intro Sy. destruct Hs as (? & ? & _ & _ & _ & Hn). apply Hn; right; auto. }
    apply (X y Sy). eapply t_trans; [apply clos_t1n_trans; exact Hr|apply t_step; exact Hs].
Qed.

Lemma same_sym : forall x y, same x y -> same y x.
Proof. intros x y [->|[? ?]]; [left|right]; auto. Qed.
Lemma same_trans : forall x y z, same x y -> same y z -> same x z.
Proof. intros x y z [->|[? ?]] [->|[? ?]]; auto; try (left; reflexivity); right; auto. Qed.
Lemma q_same_l : forall x y z, same x y -> qedge y z -> qedge x z.
Proof.
  intros x y z H (y' & z' & H1 & H2 & H3 & H4). exists y', z'. repeat split; auto.
  - eapply same_trans; eauto.
  - intro Hs; apply H4. eapply same_trans; [apply same_sym|]; eauto.
Qed.
Lemma q_same_r : forall x y z, qedge x y -> same y z -> qedge x z.
Proof.
  intros x y z (x' & y' & H1 & H2 & H3 & H4) H. exists x', y'. repeat split; auto.
  - eapply same_trans; [apply same_sym|]; eauto.
  - intro Hs; apply H4. eapply same_trans; [|apply same_sym]; eauto.
Qed.
Lemma Q_same_l : forall x y z, same x y -> clos_trans N qedge y z -> clos_trans N qedge x z.
Proof.
  intros x y z H Hq. apply clos_trans_t1n in Hq. inversion Hq; subst.
  - apply t_step. eapply q_same_l; eauto.
  - eapply t_trans; [apply t_step; eapply q_same_l; eauto|apply clos_t1n_trans; eauto].
Qed.
Lemma Q_same_r : forall x y z, clos_trans N qedge x y -> same y z -> clos_trans N qedge x z.
Proof.
  intros x y z Hq H. apply clos_trans_tn1 in Hq. inversion Hq; subst.
  - apply t_step. eapply q_same_r; eauto.
  - eapply t_trans; [apply clos_tn1_trans; eauto|apply t_step; eapply q_same_r; eauto].
Qed.

Hypothesis N_dec : forall x y : N, x = y \/ x <> y.
Lemma same_dec : forall x y, same x y \/ ~ same x y.
Proof.
  intros x y. destruct (N_dec x y) as [->|Hn]; [left; left; auto|].
  destruct (S_dec x) as [Sx|Sx]; [|right; intros [?|[? ?]]; auto].
  destruct (S_dec y) as [Sy|Sy]; [left; right; auto|right; intros [?|[? ?]]; auto].
Qed.
Lemma path_q : forall x y, x =>+ y -> same x y \/ clos_trans N qedge x y.
Proof.
  intros x y H; induction H as [x y He|x y z H1 IH1 H2 IH2].
  - destruct (same_dec x y) as [Hs|Hs]; [left; auto|right; apply t_step].
    exists x, y. repeat split; auto; left; reflexivity.
  - destruct IH1 as [A|A], IH2 as [B|B].
    + left; eapply same_trans; eauto.
    + right; eapply Q_same_l; eauto.
    + right; eapply Q_same_r; eauto.
    + right; eapply t_trans; eauto.
Qed.
(** C-CONVEX is necessary: a path that leaves [S] and comes back becomes a cycle. *)
Theorem nonconvex_path_cycle : forall u w v, S u -> u =>+ w -> w =>+ v -> S v -> ~ S w ->
  clos_trans N qedge u u.
Proof.
  intros u w v Su H1 H2 Sv Sw.
  destruct (path_q H1) as [[->|[_ ?]]|A]; [contradiction|contradiction|].
  destruct (path_q H2) as [[->|[? _]]|B]; [contradiction|contradiction|].
  eapply t_trans; [exact A|]. eapply Q_same_r; [exact B|right; auto].
Qed.
(** So convexity is exactly the condition. *)
Theorem acyclic_quotient_convex : acyclic qedge -> convex.
Proof.
  intros HA u w v Su H1 H2 Sv. destruct (S_dec w) as [?|Sw]; auto.
  exfalso. exact (HA u (nonconvex_path_cycle Su H1 H2 Sv Sw)).
Qed.
End Contract.

(** Certificate form of C-CONVEX, which the checker uses: a rank that grows along every
    edge (the position of the group in the emitted order) proves acyclicity. *)
Theorem ranked_acyclic : forall (N : Type) (Q : N -> N -> Prop) (rank : N -> nat),
  (forall x y, Q x y -> rank x < rank y) -> acyclic Q.
Proof.
  intros N Q rank H x Hx. assert (X : forall a b, clos_trans N Q a b -> rank a < rank b).
  { intros a b Hab; induction Hab; auto; lia. }
  apply X in Hx; lia.
Qed.

(** ** Many groups: contraction by iteration *)
Section Iterate.
Variable N : Type.
Definition decidable_set (C : N -> Prop) := forall x, C x \/ ~ C x.

(** Contract the sets one after the other; each must be convex in the graph as it
    is when its turn comes (that is how the pass merges). *)
Fixpoint contract_all (E : N -> N -> Prop) (Ss : list (N -> Prop)) : N -> N -> Prop :=
  match Ss with [] => E | C :: r => contract_all (qedge E C) r end.
Fixpoint convex_all (E : N -> N -> Prop) (Ss : list (N -> Prop)) : Prop :=
  match Ss with [] => True | C :: r => decidable_set C /\ convex E C /\ convex_all (qedge E C) r end.

(** C-CONVEX for a whole grouping: merging convex sets one by one never makes a cycle. *)
Theorem contract_all_acyclic : forall Ss E, acyclic E -> convex_all E Ss -> acyclic (contract_all E Ss).
Proof.
  induction Ss as [|C r IH]; intros E HA HC; cbn; auto.
  destruct HC as (HD & HC & HR). apply IH; auto. now apply convex_contract_acyclic.
Qed.

(** For disjoint groups the result does not depend on the order of the merges: it is the
    quotient by "in the same group". *)
Definition together (Ss : list (N -> Prop)) (x y : N) : Prop :=
  x = y \/ exists C, In C Ss /\ C x /\ C y.
Fixpoint disjoint (Ss : list (N -> Prop)) : Prop :=
  match Ss with
  | [] => True
  | C :: r => (forall C', In C' r -> forall x, C x -> C' x -> False) /\ disjoint r
  end.

Lemma together_cons : forall C r x y, together (C :: r) x y <-> same C x y \/ together r x y.
Proof.
  intros. unfold together, same; cbn. split.
  - intros [H|(C' & [<-|H] & ? & ?)]; eauto 6.
  - intros [[H|[? ?]]|[H|(C' & ? & ? & ?)]]; eauto 6.
Qed.

Lemma disjoint_eq : forall Ss C1 C2 x, disjoint Ss -> In C1 Ss -> In C2 Ss -> C1 x -> C2 x -> C1 = C2.
Proof.
  induction Ss as [|C r IH]; intros C1 C2 x HD H1 H2 A B; [destruct H1|]. destruct HD as [HC HD].
  destruct H1 as [<-|H1], H2 as [<-|H2]; auto.
  - exfalso. exact (HC _ H2 x A B).
  - exfalso. exact (HC _ H1 x B A).
  - eapply IH; eauto.
Qed.

Theorem contract_all_quotient : forall Ss E, disjoint Ss -> forall x y,
  contract_all E Ss x y <->
  (exists x' y', together Ss x x' /\ together Ss y y' /\ E x' y' /\ ~ together Ss x y) \/
  (Ss = [] /\ E x y).
Proof.
  induction Ss as [|C r IH]; intros E HD x y; cbn [contract_all].
  - split; [auto|]. intros [(x' & y' & Hx & Hy & H & _)|[_ H]]; auto.
    destruct Hx as [<-|(C & [] & _)]. destruct Hy as [<-|(C & [] & _)]. auto.
  - destruct HD as [HS HD]. rewrite (IH (qedge E C) HD).
    (* a point of [C] is in no later group, so the two relations do not mix *)
    assert (Mix : forall a b c, together r a b -> same C b c -> same C a c \/ (together r a c /\ b = c)).
    { intros a b c [->|(C' & Hin & Sa & Sb)] Hbc; [left; auto|].
      destruct Hbc as [->|[Sb' _]]; [right; split; auto; right; eauto|].
      exfalso. eapply HS; eauto. }
    split.
    + intros [(x1 & y1 & Hx & Hy & (x2 & y2 & Hx2 & Hy2 & He & Hn) & Hnr)|[-> (x2 & y2 & Hx2 & Hy2 & He & Hn)]];
        left; exists x2, y2; rewrite !together_cons.
      * split; [destruct (Mix _ _ _ Hx Hx2) as [?|[? _]]; auto|].
        split; [destruct (Mix _ _ _ Hy Hy2) as [?|[? _]]; auto|]. split; auto.
        intros [[<-|[Sx Sy]]|H]; [apply Hnr; left; auto| |auto].
        (* both in C: then x = x1, y = y1 *)
        destruct Hx as [<-|(C' & Hin & A & _)]; [|exact (HS C' Hin x Sx A)].
        destruct Hy as [<-|(C' & Hin & A & _)]; [|exact (HS C' Hin y Sy A)].
        apply Hn; right; auto.
      * repeat split; auto. intros [H|[<-|(C' & [])]]; auto. apply Hn; left; auto.
    + intros [(x' & y' & Hx & Hy & He & Hn)|[D _]]; [|discriminate].
      rewrite together_cons in Hx, Hy, Hn.
      assert (Go : exists x1 y1, together r x x1 /\ together r y y1 /\ same C x1 x' /\ same C y1 y').
      { assert (G : forall a a', same C a a' \/ together r a a' -> exists a1, together r a a1 /\ same C a1 a').
        { intros a a' [H|H]; [exists a; split; auto; left; auto|exists a'; split; auto; left; auto]. }
        destruct (G _ _ Hx) as (x1 & ? & ?), (G _ _ Hy) as (y1 & ? & ?). exists x1, y1; auto. }
      destruct Go as (x1 & y1 & A & B & Cx & Cy).
      left. exists x1, y1. repeat split; auto.
      exists x', y'. repeat split; auto. intro Hs. apply Hn.
      (* x ~r x1 ~C y1 ~r y *)
      destruct A as [<-|(C1 & In1 & Ax & Ax1)].
      * destruct B as [<-|(C2 & In2 & By & By1)]; auto.
        destruct Hs as [->|[_ Sy1]]; [right; right; eauto|exfalso; exact (HS C2 In2 y1 Sy1 By1)].
      * destruct Hs as [<-|[Sx1 _]]; [|exfalso; exact (HS C1 In1 x1 Sx1 Ax1)].
        destruct B as [<-|(C2 & In2 & By & By1)]; [right; right; eauto|].
        right; right. exists C1. rewrite (@disjoint_eq _ C1 C2 _ HD In1 In2 Ax1 By1) in *; auto.
Qed.
End Iterate.
