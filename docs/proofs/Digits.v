(** The digit normal form of index maps, proved sound.

    What: a chain of transposes, broadcasts, slices and reshapes is a map from points
    of its result to points of its source.  Its digit form gives the source address:
    every axis of the result is a list of digits (stride, extent), a coordinate is written
    in the mixed radix of its digits' extents, and each digit counts its stride.
    [form_sound]: the form computed from a chain gives the address of the mapped point.
    [equal_forms_equal_maps]: chains with equal forms are equal maps.
    [row_form_sound]: a form whose leading axes are the row's keeps the row (C-ROW) and
    stays in the tensor (C-BOUNDS).

    Why: this is how index maps are compared without evaluating them at every point.
    Sizes are numbers here; the C++ Check does the same with products of symbols. *)
Require Import List ZArith Bool Lia Permutation.
Require Import Tensor.
Import ListNotations.
Open Scope Z_scope.

(** ** Points and addresses *)
Definition prod (ns : list Z) : Z := fold_right Z.mul 1 ns.
Fixpoint inbox (ns : list Z) (p : idx) : Prop :=
  match ns, p with
  | [], [] => True
  | n :: ns', x :: p' => 0 <= x < n /\ inbox ns' p'
  | _, _ => False
  end.
(** Row-major address, and back. *)
Fixpoint lin (ns : list Z) (p : idx) : Z :=
  match ns, p with n :: ns', x :: p' => x * prod ns' + lin ns' p' | _, _ => 0 end.
Fixpoint unlin (ns : list Z) (a : Z) : idx :=
  match ns with [] => [] | n :: ns' => a / prod ns' :: unlin ns' (a mod prod ns') end.
Definition positive_all (ns : list Z) : Prop := Forall (fun n => 0 < n) ns.

Lemma prod_pos : forall ns, positive_all ns -> 0 < prod ns.
Proof. intros ns H; induction H; cbn; [lia|]. fold (prod l). nia. Qed.
Lemma inbox_pos : forall ns p, inbox ns p -> positive_all ns.
Proof. induction ns as [|n ns IH]; intros [|x p] H; cbn in H; try contradiction; constructor; [lia|eapply IH; apply H]. Qed.
Lemma lin_range : forall ns p, inbox ns p -> 0 <= lin ns p < prod ns.
Proof.
  induction ns as [|n ns IH]; intros [|x p] H; cbn in *; try contradiction; [lia|].
  destruct H as [Hx Hp]. fold (prod ns). specialize (IH p Hp). nia.
Qed.
Lemma divmod : forall a b q r, 0 <= r < b -> a = q * b + r -> a / b = q /\ a mod b = r.
Proof.
  intros a b q r Hr ->. split.
  - symmetry. apply Z.div_unique with r; lia.
  - symmetry. apply Z.mod_unique with q; lia.
Qed.
Lemma unlin_lin : forall ns p, inbox ns p -> unlin ns (lin ns p) = p.
Proof.
  induction ns as [|n ns IH]; intros [|x p] H; cbn in *; try contradiction; auto.
  destruct H as [Hx Hp]. destruct (divmod _ _ x _ (lin_range _ _ Hp) eq_refl) as [-> ->].
  f_equal. auto.
Qed.
Lemma lin_unlin : forall ns a, positive_all ns -> 0 <= a < prod ns ->
  inbox ns (unlin ns a) /\ lin ns (unlin ns a) = a.
Proof.
  intros ns a H. revert a. induction H as [|n ns Hn H IH]; intros a Ha; cbn in *; [lia|].
  fold (prod ns) in *. pose proof (prod_pos _ H).
  destruct (IH (a mod prod ns)) as [A B]; [apply Z.mod_pos_bound; lia|].
  repeat split; auto.
  - apply Z.div_pos; lia.
  - apply Z.div_lt_upper_bound; lia.
  - rewrite B. pose proof (Z.div_mod a (prod ns) ltac:(lia)). lia.
Qed.
(** A point is known by its address. *)
Lemma lin_inj : forall ns p q, inbox ns p -> inbox ns q -> lin ns p = lin ns q -> p = q.
Proof. intros ns p q Hp Hq E. rewrite <- (unlin_lin ns p Hp), <- (unlin_lin ns q Hq). now f_equal. Qed.

(** ** Digits *)
Notation digit := (Z * Z)%type.                   (* stride, extent *)
Definition size (ds : list digit) : Z := prod (map snd ds).
Definition good (ds : list digit) : Prop := positive_all (map snd ds).
(** What the digits, outermost first, make of the coordinate [x]. *)
Fixpoint vd (ds : list digit) (x : Z) : Z :=
  match ds with [] => 0 | (s, n) :: r => s * (x / size r) + vd r (x mod size r) end.

Lemma size_pos : forall ds, good ds -> 0 < size ds.
Proof. intros. now apply prod_pos. Qed.
Lemma prod_app : forall a b, prod (a ++ b) = prod a * prod b.
Proof.
  induction a as [|n a IH]; intro b; cbn [app]; [change (prod []) with 1; lia|].
  change (n * prod (a ++ b) = n * prod a * prod b). rewrite IH. lia.
Qed.
Lemma size_app : forall a b, size (a ++ b) = size a * size b.
Proof. intros a b. unfold size. now rewrite map_app, prod_app. Qed.
Lemma good_app : forall a b, good (a ++ b) <-> good a /\ good b.
Proof. intros. unfold good, positive_all. rewrite map_app. apply Forall_app. Qed.

Lemma div_mod_mul : forall x a b, 0 < a -> 0 < b ->
  (x mod (a * b)) / b = (x / b) mod a /\ (x mod (a * b)) mod b = x mod b /\ x / (a * b) = x / b / a.
Proof.
  intros x a b Ha Hb.
  assert (E : x mod (a * b) = ((x / b) mod a) * b + x mod b).
  { rewrite (Z.mul_comm a b), Z.rem_mul_r by lia. lia. }
  destruct (divmod _ _ _ _ (Z.mod_pos_bound x b Hb) E) as [-> ->].
  repeat split; auto. rewrite Z.mul_comm. now rewrite Z.div_div by lia.
Qed.

(** Digits of a concatenation: the outer ones see the quotient, the inner the rest. *)
Lemma vd_app : forall a b x, good a -> good b -> 0 <= x < size a * size b ->
  vd (a ++ b) x = vd a (x / size b) + vd b (x mod size b).
Proof.
  induction a as [|[s n] a IH]; intros b x Ga Gb Hx; pose proof (size_pos _ Gb); cbn [app vd].
  - change (size []) with 1 in Hx. rewrite Z.mod_small; lia.
  - inversion Ga; subst. assert (Pa : 0 < size a) by now apply size_pos.
    rewrite size_app, IH by (auto; apply Z.mod_pos_bound; nia).
    destruct (div_mod_mul x (size a) (size b) Pa H) as (-> & -> & ->). lia.
Qed.

(** Two adjacent digits that continue each other are one digit. *)
Lemma vd_merge : forall s n m r x, 0 < n -> 0 < m -> good r ->
  vd ((s * m, n) :: (s, m) :: r) x = vd ((s, n * m) :: r) x.
Proof.
  intros s n m r x Hn Hm G. pose proof (size_pos _ G) as P. cbn [vd].
  assert (E : size ((s, m) :: r) = m * size r) by reflexivity. rewrite E.
  destruct (div_mod_mul x m (size r) Hm P) as (-> & -> & ->).
  pose proof (Z.div_mod (x / size r) m ltac:(lia)). nia.
Qed.
(** A digit of extent 1 is always 0. *)
Lemma vd_unit : forall s r x, good r -> 0 <= x < size r -> vd ((s, 1) :: r) x = vd r x.
Proof. intros. cbn [vd]. rewrite Z.div_small, Z.mod_small by auto. lia. Qed.

(** The normal form: no digit of extent 1, no two adjacent digits that are one. *)
Fixpoint norm (ds : list digit) : list digit :=
  match ds with
  | [] => []
  | (s, n) :: r =>
      if n =? 1 then norm r
      else match norm r with
           | (s', m) :: r' => if s =? s' * m then (s', n * m) :: r' else (s, n) :: (s', m) :: r'
           | [] => [(s, n)]
           end
  end.
(** Normalising changes no value. *)
Theorem norm_sound : forall ds, good ds ->
  good (norm ds) /\ size (norm ds) = size ds /\ forall x, 0 <= x < size ds -> vd (norm ds) x = vd ds x.
Proof.
  induction ds as [|[s n] r IH]; intro G; [repeat split; auto|].
  inversion G as [|? ? Hn Gr]; subst. cbn in Hn. destruct (IH Gr) as (GN & SN & VN). clear IH.
  assert (Pr : 0 < size r) by now apply size_pos.
  assert (Sz : size ((s, n) :: r) = n * size r) by reflexivity. cbn [norm].
  destruct (Z.eqb_spec n 1) as [->|N1].
  { split; [auto|split; [lia|]]. intros x Hx. rewrite vd_unit; [apply VN; lia|auto|lia]. }
  assert (Hmod : forall x, vd (norm r) (x mod size r) = vd r (x mod size r))
    by (intro x; apply VN; apply Z.mod_pos_bound; auto).
  destruct (norm r) as [|[s' m] r'] eqn:EN.
  { repeat split.
    - constructor; auto.
    - rewrite Sz, <- SN. reflexivity.
    - intros x _. cbn [vd]. rewrite <- Hmod, <- SN. reflexivity. }
  inversion GN as [|? ? Hm Gr']; subst. cbn in Hm.
  assert (Sr : size r = m * size r') by (rewrite <- SN; reflexivity).
  destruct (Z.eqb_spec s (s' * m)) as [->|NE]; repeat split.
  - constructor; auto. cbn; nia.
  - rewrite Sz, Sr. change (size ((s', n * m) :: r')) with (n * m * size r'). lia.
  - intros x _. rewrite <- vd_merge by auto. cbn [vd]. rewrite <- Hmod. cbn [vd].
    change (size ((s', m) :: r')) with (m * size r'). now rewrite Sr.
  - constructor; auto.
  - rewrite Sz, <- SN. reflexivity.
  - intros x _. cbn [vd] in *. rewrite <- Hmod, <- SN. reflexivity.
Qed.

(** ** Forms *)
Definition form := (Z * list (list digit))%type.  (* offset, digits of each axis *)
Definition good_form (axes : list (list digit)) : Prop := Forall good axes.
Definition sizes (axes : list (list digit)) : list Z := map size axes.
Fixpoint sumv (axes : list (list digit)) (p : idx) : Z :=
  match axes, p with a :: axes', x :: p' => vd a x + sumv axes' p' | _, _ => 0 end.
(** The address that a form gives to a point. *)
Definition address (f : form) (p : idx) : Z := fst f + sumv (snd f) p.

Lemma size_concat : forall axes, size (concat axes) = prod (sizes axes).
Proof. induction axes as [|a r IH]; [reflexivity|]. cbn [concat]. rewrite size_app, IH. reflexivity. Qed.
Lemma good_concat : forall axes, good_form axes -> good (concat axes).
Proof. intros axes H; induction H; cbn; [constructor|]. now apply good_app. Qed.
(** The digits of all axes together act on the row-major address. *)
Lemma sumv_lin : forall axes p, good_form axes -> inbox (sizes axes) p ->
  sumv axes p = vd (concat axes) (lin (sizes axes) p).
Proof.
  induction axes as [|a axes IH]; intros [|x p] G H; cbn in *; try contradiction; auto.
  inversion G; subst. destruct H as [Hx Hp].
  rewrite vd_app by (auto using good_concat; rewrite size_concat; apply (lin_range (size a :: sizes axes) (x :: p)); cbn; auto).
  rewrite size_concat. unfold sizes in *.
  destruct (divmod _ _ x _ (lin_range _ _ Hp) eq_refl) as [-> ->]. rewrite <- IH; auto.
Qed.

Definition axes_eq_dec : forall a b : list (list digit), {a = b} + {a <> b}.
Proof. repeat decide equality. Defined.
Definition axes_eqb (a b : list (list digit)) : bool :=
  if axes_eq_dec (map norm a) (map norm b) then true else false.
(** Equal forms: equal offsets, equal normal digits on every axis. *)
Definition form_eqb (f g : form) : bool := (fst f =? fst g) && axes_eqb (snd f) (snd g).

Lemma sumv_norm : forall axes p, good_form axes -> inbox (sizes axes) p -> sumv (map norm axes) p = sumv axes p.
Proof.
  induction axes as [|a axes IH]; intros [|x p] G H; cbn in *; try contradiction; auto.
  inversion G; subst. destruct H as [Hx Hp]. rewrite IH by auto. f_equal. now apply norm_sound.
Qed.
Lemma form_eqb_sound : forall f g p, form_eqb f g = true -> good_form (snd f) -> good_form (snd g) ->
  inbox (sizes (snd f)) p -> inbox (sizes (snd g)) p -> address f p = address g p.
Proof.
  intros [o a] [o' b] p H Ga Gb Ia Ib. unfold form_eqb, axes_eqb in H. cbn [fst snd] in *.
  apply andb_true_iff in H. destruct H as [H1 H2]. apply Z.eqb_eq in H1.
  destruct (axes_eq_dec (map norm a) (map norm b)) as [E|]; [|discriminate].
  unfold address; cbn. rewrite H1, <- (sumv_norm a p), <- (sumv_norm b p), E; auto.
Qed.

(** ** Chains of views *)
Inductive view :=
| Transpose (perm : list nat)                    (* result axis i is source axis perm[i] *)
| Expand (axes : list (option Z))                (* None: the next source axis; Some n: a new axis *)
| Slice (specs : list (Z * Z * Z))               (* start, step, extent of every axis *)
| Reshape (ns : list Z).

Fixpoint index_of (j : nat) (l : list nat) : nat :=
  match l with [] => O | i :: r => if Nat.eqb j i then O else S (index_of j r) end.
Fixpoint contract_point (axes : list (option Z)) (p : idx) : idx :=
  match axes, p with
  | None :: r, x :: p' => x :: contract_point r p'
  | Some _ :: r, _ :: p' => contract_point r p'
  | _, _ => []
  end.
Fixpoint slice_point (specs : list (Z * Z * Z)) (p : idx) : idx :=
  match specs, p with (st, k, _) :: r, x :: p' => st + k * x :: slice_point r p' | _, _ => [] end.

(** The shape of the result, and the source point that a result point reads. *)
Fixpoint expand_shape (axes : list (option Z)) (ns : list Z) : list Z :=
  match axes with
  | [] => []
  | None :: r => match ns with n :: ns' => n :: expand_shape r ns' | [] => [] end
  | Some n :: r => n :: expand_shape r ns
  end.
Definition shape_of (v : view) (ns : list Z) : list Z :=
  match v with
  | Transpose perm => map (fun j => nth j ns 0) perm
  | Expand axes => expand_shape axes ns
  | Slice specs => map snd specs
  | Reshape ms => ms
  end.
Definition pull (v : view) (ns : list Z) (p : idx) : idx :=
  match v with
  | Transpose perm => map (fun j => nth (index_of j perm) p 0) (seq 0 (length ns))
  | Expand axes => contract_point axes p
  | Slice specs => slice_point specs p
  | Reshape ms => unlin ns (lin ms p)
  end.

(** *** One step on forms; [None]: the digits do not fit, another method must decide *)
Fixpoint take (n : Z) (ds : list digit) : option (list digit * list digit) :=
  if n =? 1 then Some ([], ds)
  else match ds with
       | [] => None
       | (s, m) :: r =>
           if n mod m =? 0 then
             match take (n / m) r with Some (a, rest) => Some ((s, m) :: a, rest) | None => None end
           else if m mod n =? 0 then Some ([(s * (m / n), n)], (s, m / n) :: r)
           else None
       end.
Fixpoint split_axes (ms : list Z) (ds : list digit) : option (list (list digit)) :=
  match ms with
  | [] => match ds with [] => Some [] | _ => None end
  | n :: r => match take n ds with
              | Some (a, rest) => option_map (cons a) (split_axes r rest)
              | None => None
              end
  end.
Fixpoint expand_axes (axes : list (option Z)) (ds : list (list digit)) : option (list (list digit)) :=
  match axes, ds with
  | [], [] => Some []
  | None :: r, a :: ds' => option_map (cons a) (expand_axes r ds')
  | Some n :: r, _ => if 0 <? n then option_map (cons [(0, n)]) (expand_axes r ds) else None
  | _, _ => None
  end.
Definition inside (st k m n : Z) : bool :=
  (0 <? m) && (0 <=? st) && (st <? n) && (0 <=? st + k * (m - 1)) && (st + k * (m - 1) <? n).
Fixpoint slice_axes (specs : list (Z * Z * Z)) (ds : list (list digit)) : option (Z * list (list digit)) :=
  match specs, ds with
  | [], [] => Some (0, [])
  | (st, k, m) :: r, a :: ds' =>
      if inside st k m (size a) then
        match slice_axes r ds' with
        | Some (o, axes) =>
            if (st =? 0) && (k =? 1) && (m =? size a) then Some (o, a :: axes)
            else match norm a with
                 | [] => Some (o, [(0, m)] :: axes)
                 | [(s, n)] => Some (o + s * st, [(s * k, m)] :: axes)
                 | _ => None
                 end
        | None => None
        end
      else None
  | _, _ => None
  end.
Definition perm_ok (perm : list nat) (r : nat) : bool :=
  Nat.eqb (length perm) r && forallb (fun j => existsb (Nat.eqb j) perm) (seq 0 r).
Definition step (v : view) (f : form) : option form :=
  let (o, axes) := f in
  match v with
  | Transpose perm => if perm_ok perm (length axes) then Some (o, map (fun j => nth j axes []) perm) else None
  | Expand ax => option_map (pair o) (expand_axes ax axes)
  | Slice specs => match slice_axes specs axes with Some (o', axes') => Some (o + o', axes') | None => None end
  | Reshape ms => if forallb (Z.ltb 0) ms then option_map (pair o) (split_axes ms (norm (concat axes))) else None
  end.

(** *** Each step is sound: the result's address of a point is the source's address of the
    point it reads. *)
Definition step_ok (v : view) (axes axes' : list (list digit)) (o' : Z) : Prop :=
  good_form axes' /\ sizes axes' = shape_of v (sizes axes) /\
  forall p, inbox (sizes axes') p ->
    inbox (sizes axes) (pull v (sizes axes) p) /\ o' + sumv axes' p = sumv axes (pull v (sizes axes) p).

Lemma take_sound : forall ds n a rest, take n ds = Some (a, rest) -> good ds -> 0 < n ->
  good a /\ good rest /\ size a = n /\ size a * size rest = size ds /\ forall x, vd (a ++ rest) x = vd ds x.
Proof.
  induction ds as [|[s m] r IH]; intros n a rest H G Hn; cbn [take] in H.
  - destruct (Z.eqb_spec n 1) as [->|]; [|discriminate]. inversion H; subst.
    repeat split; try constructor; auto.
  - destruct (Z.eqb_spec n 1) as [->|N1].
    { inversion H; subst. repeat split; auto; [constructor|]. change (1 * size ((s, m) :: r) = size ((s, m) :: r)). lia. }
    inversion G as [|? ? Hm Gr]; subst. cbn in Hm.
    destruct (Z.eqb_spec (n mod m) 0) as [D|D].
    + destruct (take (n / m) r) as [[a' rest']|] eqn:ET; [|discriminate]. inversion H; subst. clear H.
      assert (Q : n = m * (n / m)) by (pose proof (Z.div_mod n m ltac:(lia)); lia).
      destruct (IH _ _ _ ET Gr) as (Ga & Gt & Sa & Sr & Va); [nia|].
      repeat split; auto.
      * constructor; auto.
      * change (size ((s, m) :: a')) with (m * size a'). lia.
      * change (size ((s, m) :: a')) with (m * size a'). change (size ((s, m) :: r)) with (m * size r). nia.
      * intro x. cbn [app vd]. rewrite size_app, Sr. f_equal. apply Va.
    + destruct (Z.eqb_spec (m mod n) 0) as [D'|D']; [|discriminate]. inversion H; subst. clear H.
      assert (Q : m = n * (m / n)) by (pose proof (Z.div_mod m n ltac:(lia)); lia).
      assert (Pk : 0 < m / n) by nia.
      repeat split; auto.
      * repeat constructor; auto.
      * constructor; auto.
      * change (n * 1 = n). lia.
      * change (n * 1 * (m / n * size r) = m * size r). rewrite Q at 2. lia.
      * intro x. cbn [app]. rewrite vd_merge by auto. now rewrite <- Q.
Qed.

Lemma split_sound : forall ms ds axes, split_axes ms ds = Some axes -> good ds -> positive_all ms ->
  good_form axes /\ sizes axes = ms /\ prod ms = size ds /\
  forall x, 0 <= x < size ds -> vd (concat axes) x = vd ds x.
Proof.
  induction ms as [|n ms IH]; intros ds axes H G P; cbn in H.
  - destruct ds; [|discriminate]. inversion H; subst. repeat split; constructor.
  - inversion P as [|? ? Hn Pm]; subst. destruct (take n ds) as [[a rest]|] eqn:ET; [|discriminate].
    destruct (split_axes ms rest) as [l|] eqn:ES; [|discriminate]. inversion H; subst. clear H.
    destruct (take_sound _ _ _ _ ET G Hn) as (Ga & Gt & Sa & Sr & Va).
    destruct (IH _ _ ES Gt Pm) as (Gl & Sl & Pl & Vl). repeat split.
    + constructor; auto.
    + change (size a :: sizes l = n :: ms). now rewrite Sa, Sl.
    + change (n * prod ms = size ds). rewrite Pl, <- Sa. auto.
    + intros x Hx. rewrite <- Sr in Hx. cbn [concat].
      assert (Sc : size (concat l) = size rest) by (rewrite size_concat, Sl; auto).
      rewrite <- Va, !vd_app by (auto using good_concat; rewrite ?Sc; auto). rewrite Sc. f_equal.
      apply Vl. apply Z.mod_pos_bound. now apply size_pos.
Qed.

Lemma reshape_ok : forall axes ms axes', good_form axes -> forallb (Z.ltb 0) ms = true ->
  split_axes ms (norm (concat axes)) = Some axes' -> step_ok (Reshape ms) axes axes' 0.
Proof.
  intros axes ms axes' G Hm H. assert (P : positive_all ms).
  { apply Forall_forall. rewrite forallb_forall in Hm. intros n Hn. apply Hm in Hn. now apply Z.ltb_lt. }
  destruct (norm_sound _ (good_concat _ G)) as (GN & SN & VN).
  destruct (split_sound _ _ _ H GN P) as (Ga & Sa & Pa & Va).
  split; [auto|split; [exact Sa|]]. intros p Hp. cbn [pull].
  assert (R : 0 <= lin ms p < prod (sizes axes)).
  { rewrite <- size_concat, <- SN, <- Pa. rewrite Sa in Hp. now apply lin_range. }
  assert (PA : positive_all (sizes axes)).
  { apply Forall_forall. intros n Hn. apply in_map_iff in Hn. destruct Hn as (a & <- & Hin).
    apply size_pos. unfold good_form in G. rewrite Forall_forall in G. auto. }
  destruct (lin_unlin _ _ PA R) as [A B]. split; auto.
  rewrite (sumv_lin _ _ G A), B, (sumv_lin _ _ Ga Hp), Sa.
  rewrite <- size_concat in R. rewrite Va, VN by lia. lia.
Qed.

Lemma expand_ok : forall ax axes axes', good_form axes -> expand_axes ax axes = Some axes' ->
  good_form axes' /\ sizes axes' = expand_shape ax (sizes axes) /\
  forall p, inbox (sizes axes') p ->
    inbox (sizes axes) (contract_point ax p) /\ sumv axes' p = sumv axes (contract_point ax p).
Proof.
  induction ax as [|[n|] ax IH]; intros axes axes' G H; cbn in H.
  - destruct axes; [|discriminate]. inversion H; subst. repeat split; try constructor; destruct p; cbn in *; tauto.
  - destruct (Z.ltb_spec 0 n) as [Hn|]; [|discriminate].
    destruct (expand_axes ax axes) as [l|] eqn:E; [|discriminate]. inversion H; subst. clear H.
    destruct (IH _ _ G E) as (Gl & Sl & Pl).
    assert (S1 : size [(0, n)] = n) by (unfold size; cbn; lia).
    split; [constructor; auto; repeat constructor; auto|]. split; [change (size [(0, n)] :: sizes l = n :: expand_shape ax (sizes axes)); now rewrite Sl, S1|].
    intros [|x p] Hp; cbn [sizes map inbox] in Hp; [contradiction|]. destruct Hp as [Hx Hp].
    destruct (Pl p Hp) as [A B]. split; [exact A|]. cbn [sumv contract_point vd]. rewrite <- B. lia.
  - destruct axes as [|a axes]; [discriminate|].
    destruct (expand_axes ax axes) as [l|] eqn:E; [|discriminate]. inversion H; subst. clear H.
    inversion G; subst. destruct (IH _ _ H2 E) as (Gl & Sl & Pl).
    split; [constructor; auto|]. split; [change (size a :: sizes l = size a :: expand_shape ax (sizes axes)); now rewrite Sl|].
    intros [|x p] Hp; cbn [sizes map inbox] in Hp; [contradiction|]. destruct Hp as [Hx Hp].
    destruct (Pl p Hp) as [A B]. split; [exact (conj Hx A)|]. cbn [sumv contract_point]. now rewrite B.
Qed.

Lemma inside_sound : forall st k m n, inside st k m n = true ->
  0 < m /\ forall x, 0 <= x < m -> 0 <= st + k * x < n.
Proof.
  intros st k m n H. unfold inside in H. rewrite !andb_true_iff, !Z.ltb_lt, !Z.leb_le in H.
  destruct H as [[[[H1 H2] H3] H4] H5]. split; auto. intros x Hx. destruct (Z.le_gt_cases 0 k); nia.
Qed.
Lemma slice_ok : forall specs axes o axes', good_form axes -> slice_axes specs axes = Some (o, axes') ->
  good_form axes' /\ sizes axes' = map snd specs /\
  forall p, inbox (sizes axes') p ->
    inbox (sizes axes) (slice_point specs p) /\ o + sumv axes' p = sumv axes (slice_point specs p).
Proof.
  induction specs as [|[[st k] m] specs IH]; intros axes o axes' G H; cbn in H.
  - destruct axes; [|discriminate]. inversion H; subst. repeat split; try constructor; destruct p; cbn in *; tauto.
  - destruct axes as [|a axes]; [discriminate|]. destruct (inside st k m (size a)) eqn:EI; [|discriminate].
    destruct (inside_sound _ _ _ _ EI) as [Pm In]. inversion G as [|? ? Ga Gx]; subst.
    destruct (slice_axes specs axes) as [[o1 l]|] eqn:E; [|discriminate].
    destruct (IH _ _ _ Gx E) as (Gl & Sl & Pl). destruct (norm_sound _ Ga) as (GN & SN & VN).
    destruct ((st =? 0) && (k =? 1) && (m =? size a)) eqn:ET.
    { inversion H; subst. clear H. rewrite !andb_true_iff, !Z.eqb_eq in ET. destruct ET as [[-> ->] ->].
      split; [constructor; auto|]. split; [change (size a :: sizes l = size a :: map snd specs); now rewrite Sl|].
      intros [|x p] Hp; cbn [sizes map inbox] in Hp; [contradiction|]. destruct Hp as [Hx Hp].
      destruct (Pl p Hp) as [A B]. replace (0 + 1 * x) with x by lia.
      cbn [slice_point sizes map inbox sumv]. replace (0 + 1 * x) with x by lia. split; [auto|lia]. }
    assert (One : forall s, size [(s, m)] = m) by (intro; unfold size; cbn; lia).
    destruct (norm a) as [|[s n] [|? ?]] eqn:EN; [| |discriminate]; inversion H; subst; clear H;
    (split; [constructor; auto; repeat constructor; auto|]; split; [cbn [sizes map snd]; rewrite One; f_equal; exact Sl|]);
    intros [|x p] Hp; cbn [sizes map inbox] in Hp; try contradiction; rewrite One in Hp; destruct Hp as [Hx Hp];
    destruct (Pl p Hp) as [A B]; cbn [slice_point sizes map inbox sumv]; (split; [auto|]);
    rewrite <- (VN (st + k * x)) by auto; cbn [vd]; change (size []) with 1; rewrite !Z.div_1_r; lia.
Qed.

Lemma index_of_map : forall perm p, NoDup perm -> length p = length perm ->
  map (fun j => nth (index_of j perm) p 0) perm = p.
Proof.
  induction perm as [|a perm IH]; intros [|x p] ND L; cbn in L; try discriminate; auto.
  inversion ND; subst. cbn [map index_of]. rewrite Nat.eqb_refl. cbn [nth]. f_equal.
  transitivity (map (fun j => nth (index_of j perm) p 0) perm); [|apply IH; auto; lia]. apply map_ext_in. intros j Hj.
  cbn [index_of]. destruct (Nat.eqb_spec j a); [subst; contradiction|]. reflexivity.
Qed.
Lemma perm_ok_sound : forall perm r, perm_ok perm r = true -> Permutation perm (seq 0 r).
Proof.
  intros perm r H. unfold perm_ok in H. apply andb_true_iff in H. destruct H as [L H].
  apply Nat.eqb_eq in L. rewrite forallb_forall in H. apply Permutation_sym, NoDup_Permutation_bis.
  - apply seq_NoDup.
  - rewrite seq_length. lia.
  - intros j Hj. apply H in Hj. apply existsb_exists in Hj. destruct Hj as (i & Hi & E).
    apply Nat.eqb_eq in E. now subst.
Qed.
Definition zsum (l : list Z) : Z := fold_right Z.add 0 l.
Lemma zsum_perm : forall l l', Permutation l l' -> zsum l = zsum l'.
Proof. intros l l' H; unfold zsum; induction H; cbn [fold_right]; lia. Qed.
Lemma sumv_nth : forall axes p, length p = length axes ->
  sumv axes p = zsum (map (fun j => vd (nth j axes []) (nth j p 0)) (seq 0 (length axes))).
Proof.
  induction axes as [|a axes IH]; intros [|x p] L; cbn in L; try discriminate; auto.
  cbn [length seq map zsum fold_right nth sumv]. f_equal. rewrite IH by lia.
  rewrite <- seq_shift, map_map. reflexivity.
Qed.
Lemma sumv_map : forall (g : nat -> list digit) (l : list nat) p, length p = length l ->
  sumv (map g l) p = zsum (map (fun jx => vd (g (fst jx)) (snd jx)) (combine l p)).
Proof. induction l as [|j l IH]; intros [|x p] L; cbn in L; try discriminate; auto. cbn. f_equal. rewrite IH by lia. reflexivity. Qed.
Lemma combine_map : forall (A B : Type) (h : A -> B) l, combine l (map h l) = map (fun a => (a, h a)) l.
Proof. induction l; cbn; congruence. Qed.
Lemma inbox_nth : forall ns p, inbox ns p <->
  length p = length ns /\ forall j, (j < length ns)%nat -> 0 <= nth j p 0 < nth j ns 0.
Proof.
  induction ns as [|n ns IH]; intros [|x p]; cbn [inbox length]; split; try tauto; try (intros [L _]; discriminate).
  - intros _. split; auto. intros; lia.
  - intros [Hx Hp]. apply IH in Hp. destruct Hp as [L Hp]. split; [lia|]. intros [|j] Hj; cbn; [lia|]. apply Hp; lia.
  - intros [L H]. split; [apply (H O); lia|]. apply IH. split; [lia|]. intros j Hj. apply (H (S j)). lia.
Qed.
Lemma nth_map_seq : forall (A : Type) (f : nat -> A) d r j, (j < r)%nat -> nth j (map f (seq 0 r)) d = f j.
Proof.
  intros. rewrite nth_indep with (d' := f O) by (now rewrite map_length, seq_length).
  rewrite map_nth. now rewrite seq_nth by auto.
Qed.

Lemma transpose_ok : forall perm axes, good_form axes -> perm_ok perm (length axes) = true ->
  step_ok (Transpose perm) axes (map (fun j => nth j axes []) perm) 0.
Proof.
  intros perm axes G H. apply perm_ok_sound in H.
  assert (ND : NoDup perm) by (eapply Permutation_NoDup; [apply Permutation_sym; exact H|apply seq_NoDup]).
  assert (InP : forall j, In j perm <-> (j < length axes)%nat).
  { intro j. split; intro Hj.
    - eapply Permutation_in in Hj; [|exact H]. apply in_seq in Hj. lia.
    - eapply Permutation_in; [apply Permutation_sym; exact H|]. apply in_seq. lia. }
  assert (Sz : sizes (map (fun j => nth j axes []) perm) = map (fun j => nth j (sizes axes) 0) perm).
  { unfold sizes. rewrite map_map. apply map_ext_in. intros j Hj. apply InP in Hj.
    rewrite nth_indep with (d' := size []) by (now rewrite map_length). now rewrite map_nth. }
  split; [|split; [exact Sz|]].
  - apply Forall_forall. intros a Ha. apply in_map_iff in Ha. destruct Ha as (j & <- & Hj).
    unfold good_form in G. rewrite Forall_forall in G. apply G. apply nth_In. now apply InP.
  - intros p Hp. cbn [pull]. rewrite Sz in Hp. 
    replace (length (sizes axes)) with (length axes) by (unfold sizes; now rewrite map_length).
    set (q := map (fun j => nth (index_of j perm) p 0) (seq 0 (length axes))).
    apply inbox_nth in Hp. rewrite map_length in Hp. destruct Hp as [Lp Hp].
    assert (Lq : length q = length axes) by (unfold q; now rewrite map_length, seq_length).
    assert (Hidx : forall j, In j perm -> (index_of j perm < length perm)%nat /\ nth (index_of j perm) perm O = j).
    { clear. induction perm as [|a perm IH]; intros j Hj; [contradiction|]. cbn [index_of].
      destruct (Nat.eqb_spec j a) as [->|N]; cbn; [split; [lia|auto]|].
      destruct Hj as [->|Hj]; [congruence|]. destruct (IH j Hj). split; [lia|auto]. }
    split.
    + apply inbox_nth. unfold sizes; rewrite map_length. split; auto. intros j Hj.
      unfold q. rewrite nth_map_seq by auto. destruct (Hidx j) as [I1 I2]; [now apply InP|].
      specialize (Hp _ I1).
      rewrite (nth_indep (map (fun j => nth j (sizes axes) 0) perm) 0 (nth O (sizes axes) 0)) in Hp by (now rewrite map_length).
      rewrite (map_nth (fun j => nth j (sizes axes) 0)), I2 in Hp. exact Hp.
    + cbn. rewrite (sumv_nth axes q Lq), sumv_map by auto.
      rewrite <- (index_of_map perm p ND Lp) at 1. rewrite combine_map, map_map. cbn.
      rewrite (zsum_perm _ (map (fun j => vd (nth j axes []) (nth (index_of j perm) p 0)) (seq 0 (length axes)))).
      * f_equal. apply map_ext_in. intros j Hj. apply in_seq in Hj. unfold q. rewrite nth_map_seq by lia. reflexivity.
      * apply Permutation_map. exact H.
Qed.

Lemma step_sound : forall v o axes o' axes', good_form axes -> step v (o, axes) = Some (o', axes') ->
  step_ok v axes axes' (o' - o).
Proof.
  intros v o axes o' axes' G H. destruct v as [perm|ax|specs|ms]; cbn in H.
  - destruct (perm_ok perm (length axes)) eqn:E; [|discriminate]. inversion H; subst.
    replace (o' - o') with 0 by lia. now apply transpose_ok.
  - destruct (expand_axes ax axes) eqn:E; [|discriminate]. inversion H; subst.
    destruct (expand_ok _ _ _ G E) as (A & B & C). split; [auto|split; [exact B|]].
    intros p Hp. destruct (C p Hp). split; [assumption|]. cbn [pull]. lia.
  - destruct (slice_axes specs axes) as [[d l]|] eqn:E; [|discriminate]. inversion H; subst.
    destruct (slice_ok _ _ _ _ G E) as (A & B & C). split; [auto|split; [exact B|]].
    intros p Hp. destruct (C p Hp). split; [assumption|]. cbn [pull]. lia.
  - destruct (forallb (Z.ltb 0) ms) eqn:E; [|discriminate].
    destruct (split_axes ms (norm (concat axes))) eqn:ES; [|discriminate]. inversion H; subst.
    replace (o' - o') with 0 by lia. now apply reshape_ok.
Qed.

(** ** Chains *)
Fixpoint pull_all (vs : list view) (ns : list Z) (p : idx) : idx :=
  match vs with [] => p | v :: r => pull v ns (pull_all r (shape_of v ns) p) end.
Fixpoint shape_all (vs : list view) (ns : list Z) : list Z :=
  match vs with [] => ns | v :: r => shape_all r (shape_of v ns) end.
Fixpoint steps (vs : list view) (f : form) : option form :=
  match vs with [] => Some f | v :: r => match step v f with Some f' => steps r f' | None => None end end.
(** The row-major form of a shape. *)
Fixpoint contiguous (ns : list Z) : list (list digit) :=
  match ns with [] => [] | n :: r => [(prod r, n)] :: contiguous r end.
Definition form_of (ns : list Z) (vs : list view) : option form :=
  if forallb (Z.ltb 0) ns then steps vs (0, contiguous ns) else None.

Lemma steps_sound : forall vs o axes o' axes', good_form axes -> steps vs (o, axes) = Some (o', axes') ->
  good_form axes' /\ sizes axes' = shape_all vs (sizes axes) /\
  forall p, inbox (sizes axes') p ->
    inbox (sizes axes) (pull_all vs (sizes axes) p) /\
    o' + sumv axes' p = o + sumv axes (pull_all vs (sizes axes) p).
Proof.
  induction vs as [|v vs IH]; intros o axes o' axes' G H; cbn [steps pull_all shape_all] in *.
  - inversion H; subst. auto.
  - destruct (step v (o, axes)) as [[o1 axes1]|] eqn:E; [|discriminate].
    destruct (step_sound _ _ _ _ _ G E) as (G1 & S1 & P1). destruct (IH _ _ _ _ G1 H) as (G2 & S2 & P2).
    rewrite S1 in S2, P2. split; [auto|split; [auto|]]. intros p Hp. destruct (P2 p Hp) as [A B].
    rewrite <- S1 in A. destruct (P1 _ A) as [C D]. rewrite S1 in *. split; auto. lia.
Qed.

Lemma contiguous_sound : forall ns, positive_all ns ->
  good_form (contiguous ns) /\ sizes (contiguous ns) = ns /\ forall p, inbox ns p -> sumv (contiguous ns) p = lin ns p.
Proof.
  intros ns H; induction H as [|n ns Hn H (G & S & L)]; cbn.
  - split; [constructor|split; [reflexivity|]]. intros [|? ?] Hp; reflexivity.
  - split; [constructor; auto; repeat constructor; auto|]. split.
    + change (n * 1 :: sizes (contiguous ns) = n :: ns). rewrite S. f_equal. lia.
    + intros [|x p] Hp; [contradiction|]. destruct Hp as [Hx Hp]. cbn [sumv vd lin]. rewrite L by auto.
      change (size []) with 1. rewrite Z.div_1_r. lia.
Qed.

Lemma form_good : forall ns vs f, form_of ns vs = Some f -> positive_all ns /\ good_form (snd f).
Proof.
  intros ns vs [o axes] H. unfold form_of in H. destruct (forallb (Z.ltb 0) ns) eqn:E; [|discriminate].
  assert (P : positive_all ns).
  { apply Forall_forall. rewrite forallb_forall in E. intros n Hn. apply E in Hn. now apply Z.ltb_lt. }
  destruct (contiguous_sound _ P) as (G & _). split; auto. now destruct (steps_sound _ _ _ _ _ G H).
Qed.

(** C-COMPOSE, digit form: the form of a chain gives, at every point of the result, the
    address of the source point that the chain reads, and that point is in the source. *)
Theorem form_sound : forall ns vs f, form_of ns vs = Some f ->
  sizes (snd f) = shape_all vs ns /\
  forall p, inbox (shape_all vs ns) p ->
    inbox ns (pull_all vs ns p) /\ address f p = lin ns (pull_all vs ns p).
Proof.
  intros ns vs [o axes] H. unfold form_of in H. destruct (forallb (Z.ltb 0) ns) eqn:E; [|discriminate].
  assert (P : positive_all ns).
  { apply Forall_forall. rewrite forallb_forall in E. intros n Hn. apply E in Hn. now apply Z.ltb_lt. }
  destruct (contiguous_sound _ P) as (G & S & L). destruct (steps_sound _ _ _ _ _ G H) as (GA & SA & PA).
  rewrite S in *. split; [exact SA|]. intros p Hp. cbn [snd]. rewrite <- SA in Hp. destruct (PA p Hp) as [A B].
  split; auto. unfold address; cbn [fst snd]. rewrite <- L by auto. lia.
Qed.

(** Equal forms are equal maps. *)
Definition same_views (ns : list Z) (a b : list view) : bool :=
  match form_of ns a, form_of ns b with Some f, Some g => form_eqb f g | _, _ => false end.
Theorem equal_forms_equal_maps : forall ns a b, same_views ns a b = true ->
  forall p, inbox (shape_all a ns) p -> inbox (shape_all b ns) p -> pull_all a ns p = pull_all b ns p.
Proof.
  intros ns a b H p Ha Hb. unfold same_views in H.
  destruct (form_of ns a) as [f|] eqn:EF; [|discriminate]. destruct (form_of ns b) as [g|] eqn:EG; [|discriminate].
  destruct (form_sound _ _ _ EF) as [Sf Pf]. destruct (form_sound _ _ _ EG) as [Sg Pg].
  destruct (Pf p Ha) as [Ia Aa], (Pg p Hb) as [Ib Ab]. apply (lin_inj ns); auto.
  rewrite <- Aa, <- Ab.
  apply form_eqb_sound; auto; try (eapply form_good; eassumption); [now rewrite Sf|now rewrite Sg].
Qed.

(** Examples: the check is not empty. *)
Example transpose_twice : same_views [4; 6] [Transpose [1; 0]%nat; Transpose [1; 0]%nat] [] = true.
Proof. reflexivity. Qed.
Example reshape_round_trip :
  same_views [4; 6] [Transpose [1; 0]%nat; Reshape [2; 12]; Reshape [6; 4]; Transpose [1; 0]%nat] [] = true.
Proof. reflexivity. Qed.
Example split_heads : same_views [8; 64]
  [Reshape [8; 4; 16]; Transpose [1; 0; 2]%nat; Slice [(1, 2, 2); (0, 1, 8); (0, 1, 16)]]
  [Slice [(0, 1, 8); (16, 1, 48)]; Reshape [8; 3; 16]; Slice [(0, 1, 8); (0, 2, 2); (0, 1, 16)]; Transpose [1; 0; 2]%nat] = true.
Proof. reflexivity. Qed.
Example transposed_is_not : same_views [4; 4] [Transpose [1; 0]%nat] [] = false.
Proof. reflexivity. Qed.
Example slice_off_by_one : same_views [8] [Slice [(1, 1, 4)]] [Slice [(2, 1, 4)]] = false.
Proof. reflexivity. Qed.
Example expanded : same_views [4; 1] [Reshape [4]; Expand [None; Some 6]; Slice [(0, 1, 4); (3, 1, 2)]]
                                     [Reshape [4]; Expand [None; Some 2]] = true.
Proof. reflexivity. Qed.

(** ** The row, by digits
    The least and the greatest value of the digits. *)
Definition lo (ds : list digit) : Z := zsum (map (fun d => Z.min 0 (fst d * (snd d - 1))) ds).
Definition hi (ds : list digit) : Z := zsum (map (fun d => Z.max 0 (fst d * (snd d - 1))) ds).
Definition row_ok (k : nat) (ns : list Z) (f : form) : bool :=
  let rest := concat (skipn k (snd f)) in
  Nat.leb k (length ns) && axes_eqb (firstn k (snd f)) (firstn k (contiguous ns))
  && (0 <=? fst f + lo rest) && (fst f + hi rest <? prod (skipn k ns)).

Lemma vd_range : forall ds x, good ds -> 0 <= x < size ds -> lo ds <= vd ds x <= hi ds.
Proof.
  induction ds as [|[s n] r IH]; intros x G Hx; [cbn; lia|].
  inversion G as [|? ? Hn Gr]; subst. cbn in Hn. pose proof (size_pos _ Gr) as P.
  change (size ((s, n) :: r)) with (n * size r) in Hx.
  assert (Q : 0 <= x / size r < n).
  { split; [apply Z.div_pos; lia|apply Z.div_lt_upper_bound; lia]. }
  pose proof (IH (x mod size r) Gr (Z.mod_pos_bound _ _ P)) as [L H].
  cbn [vd]. change (lo ((s, n) :: r)) with (Z.min 0 (s * (n - 1)) + lo r).
  change (hi ((s, n) :: r)) with (Z.max 0 (s * (n - 1)) + hi r).
  destruct (Z.le_gt_cases 0 s); nia.
Qed.
Lemma sumv_split : forall k axes p, inbox (sizes axes) p ->
  sumv axes p = sumv (firstn k axes) (firstn k p) + sumv (skipn k axes) (skipn k p) /\
  inbox (sizes (firstn k axes)) (firstn k p) /\ inbox (sizes (skipn k axes)) (skipn k p).
Proof.
  induction k as [|k IH]; intros axes p H; [cbn; auto|].
  destruct axes as [|a axes], p as [|x p]; cbn [sizes map inbox] in H; try contradiction; [cbn; auto|].
  destruct H as [Hx Hp]. destruct (IH axes p Hp) as (A & B & C).
  cbn [firstn skipn sumv sizes map inbox]. rewrite A. split; [lia|split; [split; [exact Hx|exact B]|exact C]].
Qed.
Lemma lin_app : forall ns ms p q, length p = length ns -> lin (ns ++ ms) (p ++ q) = lin ns p * prod ms + lin ms q.
Proof.
  induction ns as [|n ns IH]; intros ms [|x p] q L; cbn in L; try discriminate; [cbn; lia|].
  cbn [app lin]. rewrite IH, prod_app by lia. lia.
Qed.
Lemma inbox_app : forall ns ms p q, inbox ns p -> inbox ms q -> inbox (ns ++ ms) (p ++ q).
Proof. induction ns as [|n ns IH]; intros ms [|x p] q H H'; cbn in *; try contradiction; auto. destruct H; auto. Qed.
Lemma inbox_length : forall ns p, inbox ns p -> length p = length ns.
Proof. induction ns as [|n ns IH]; intros [|x p] H; cbn in *; try contradiction; auto. destruct H. f_equal; auto. Qed.
Lemma contiguous_prefix : forall k ns p, inbox (firstn k ns) p ->
  sumv (firstn k (contiguous ns)) p = lin (firstn k ns) p * prod (skipn k ns).
Proof.
  induction k as [|k IH]; intros ns p H; [cbn; destruct p; reflexivity|].
  destruct ns as [|n ns], p as [|x p]; cbn [firstn contiguous] in *; try contradiction; [reflexivity|].
  destruct H as [Hx Hp]. cbn [sumv vd lin skipn]. rewrite IH by auto.
  assert (E : prod ns = prod (firstn k ns) * prod (skipn k ns)) by (rewrite <- prod_app, firstn_skipn; auto).
  change (size []) with 1. rewrite Z.div_1_r, E. lia.
Qed.
Lemma sizes_contiguous_prefix : forall k ns, sizes (firstn k (contiguous ns)) = firstn k ns.
Proof.
  induction k as [|k IH]; intros [|n ns]; auto. cbn [contiguous firstn].
  change (n * 1 :: sizes (firstn k (contiguous ns)) = n :: firstn k ns). rewrite IH. f_equal. lia.
Qed.
Lemma sizes_norm : forall axes, good_form axes -> sizes (map norm axes) = sizes axes.
Proof.
  intros axes G; induction G as [|a axes Ga G IH]; auto.
  change (size (norm a) :: sizes (map norm axes) = size a :: sizes axes). rewrite IH. f_equal.
  now destruct (norm_sound _ Ga) as (_ & S & _).
Qed.
Lemma good_firstn : forall k axes, good_form axes -> good_form (firstn k axes) /\ good_form (skipn k axes).
Proof. intros k axes G. unfold good_form in *. rewrite <- (firstn_skipn k axes) in G. now apply Forall_app in G. Qed.

(** C-ROW and C-BOUNDS by digits: a form whose first [k] axes are the tensor's own first [k]
    axes, and whose rest stays below their stride, reads in the row of the point (its
    first [k] coordinates) and inside the tensor. *)
Theorem row_form_sound : forall k ns vs f, form_of ns vs = Some f -> row_ok k ns f = true ->
  forall p, inbox (shape_all vs ns) p ->
    inbox ns (pull_all vs ns p) /\ firstn k (pull_all vs ns p) = firstn k p.
Proof.
  intros k ns vs [o axes] EF H p Hp. destruct (form_good _ _ _ EF) as [P G].
  destruct (form_sound _ _ _ EF) as [Sf Pf]. destruct (Pf p Hp) as [Hin Ha]. split; auto.
  unfold row_ok in H. cbn [fst snd] in *. rewrite !andb_true_iff, Nat.leb_le, Z.leb_le, Z.ltb_lt in H.
  destruct H as [[[Hk He] Hlo] Hhi]. unfold axes_eqb in He.
  destruct (axes_eq_dec (map norm (firstn k axes)) (map norm (firstn k (contiguous ns)))) as [E|]; [|discriminate].
  rewrite <- Sf in Hp. destruct (sumv_split k _ _ Hp) as (A & B & C).
  destruct (good_firstn k axes G) as [G1 G2]. destruct (contiguous_sound _ P) as (GC & _).
  destruct (good_firstn k _ GC) as [GC1 _].
  assert (Sz : sizes (firstn k axes) = firstn k ns)
    by (rewrite <- (sizes_norm _ G1), E, (sizes_norm _ GC1); apply sizes_contiguous_prefix).
  assert (Row : sumv (firstn k axes) (firstn k p) = lin (firstn k ns) (firstn k p) * prod (skipn k ns)).
  { rewrite <- (sumv_norm _ _ G1 B), E. rewrite Sz in B. rewrite sumv_norm; auto.
    - now apply contiguous_prefix.
    - now rewrite sizes_contiguous_prefix. }
  set (rest := o + sumv (skipn k axes) (skipn k p)) in *.
  assert (R : 0 <= rest < prod (skipn k ns)).
  { unfold rest. rewrite (sumv_lin _ _ G2 C).
    pose proof (vd_range _ (lin (sizes (skipn k axes)) (skipn k p)) (good_concat _ G2)) as V.
    rewrite size_concat in V. specialize (V (lin_range _ _ C)). lia. }
  assert (PS : positive_all (skipn k ns)).
  { unfold positive_all in *. rewrite <- (firstn_skipn k ns) in P. now apply Forall_app in P. }
  destruct (lin_unlin _ _ PS R) as [U1 U2].
  assert (Q : firstn k p ++ unlin (skipn k ns) rest = pull_all vs ns p).
  { rewrite Sz in B. apply (lin_inj ns).
    - rewrite <- (firstn_skipn k ns) at 1. now apply inbox_app.
    - exact Hin.
    - rewrite <- Ha. rewrite <- (firstn_skipn k ns) at 1. rewrite lin_app by now apply inbox_length.
      rewrite U2. unfold address; cbn [fst snd]. rewrite A, Row. unfold rest. lia. }
  rewrite <- Q. assert (L : length (firstn k p) = k).
  { rewrite Sz in B. rewrite (inbox_length _ _ B). rewrite firstn_length. lia. }
  rewrite firstn_app, L, Nat.sub_diag, firstn_O, app_nil_r. rewrite <- L at 1. now rewrite firstn_all.
Qed.
Close Scope Z_scope.
