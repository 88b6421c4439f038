// Elementwise operators: a row is a name, its attributes and its scalar body.
//
// In a body `b` is the ExprBuilder, `in` the operand scalars, `t` the result
// element type, `op` the operator (for its attributes). Operands broadcast as
// numpy does: the load maps drop broadcast axes.
#ifndef DLC_GRAPH_ELEMENTWISE_OPS_TD
#define DLC_GRAPH_ELEMENTWISE_OPS_TD

include "dlc/Dialect/Graph/IR/GraphBase.td"

class Graph_Elementwise<string mnemonic, string scalarBody, string inferElement,
                        dag args = (ins), list<Trait> traits = []>
    : Graph_TensorOp<mnemonic, "elementwise",
        !listconcat([DeclareOpInterfaceMethods<InferTypeOpInterface>], traits)> {
  let arguments = args;
  let results = (outs AnyRankedTensor:$result);
  let extraClassDeclaration = classDeclaration # [{
    /// The scalar this operator computes from one scalar of each operand.
    ::mlir::Value buildScalar(::dlc::graph::ExprBuilder &b, ::mlir::ValueRange in, ::mlir::Type t);
  }];
  let extraClassDefinition = [{
    ::mlir::Value $cppClass::buildScalar(::dlc::graph::ExprBuilder &b, ::mlir::ValueRange in, ::mlir::Type t) {
      [[maybe_unused]] auto op = *this;
      }] # scalarBody # [{
    }
    ::llvm::LogicalResult $cppClass::buildKernel(::dlc::graph::KernelBuilder &kernel) {
      return ::dlc::graph::detail::buildElementwiseKernel(getOperation(), kernel,
          [&](::dlc::graph::ExprBuilder &b, ::mlir::ValueRange in, ::mlir::Type t) { return buildScalar(b, in, t); });
    }
    ::llvm::LogicalResult $cppClass::inferReturnTypes(::mlir::MLIRContext *context, ::std::optional<::mlir::Location> loc,
        ::mlir::ValueRange operands, ::mlir::DictionaryAttr attributes, ::mlir::OpaqueProperties properties,
        ::mlir::RegionRange regions, ::llvm::SmallVectorImpl<::mlir::Type> &results) {
      [[maybe_unused]] auto element = [&](unsigned i) {
        return ::llvm::cast<::mlir::RankedTensorType>(operands[i].getType()).getElementType(); };
      [[maybe_unused]] auto i1 = ::mlir::IntegerType::get(context, 1);
      return ::dlc::graph::detail::inferBroadcast(loc, operands, }] # inferElement # [{, results);
    }
  }];
}

class Graph_Unary<string mnemonic, string scalarBody>
    : Graph_Elementwise<mnemonic, scalarBody, "element(0)", (ins AnyRankedTensor:$x)>;
class Graph_UnaryAttrs<string mnemonic, string scalarBody, dag attrs>
    : Graph_Elementwise<mnemonic, scalarBody, "element(0)", !con((ins AnyRankedTensor:$x), attrs)>;
class Graph_Predicate<string mnemonic, string scalarBody>
    : Graph_Elementwise<mnemonic, scalarBody, "i1", (ins AnyRankedTensor:$x)>;
class Graph_Binary<string mnemonic, string scalarBody>
    : Graph_Elementwise<mnemonic, scalarBody, "element(0)", (ins AnyRankedTensor:$x, AnyRankedTensor:$y),
                        [SameOperandsElementType]>;
class Graph_Compare<string mnemonic, string scalarBody>
    : Graph_Elementwise<mnemonic, scalarBody, "i1", (ins AnyRankedTensor:$x, AnyRankedTensor:$y),
                        [SameOperandsElementType]>;

// One scalar function of ScalarFn.
class Fn<string fn> { string body = "return b.apply(ScalarFn::" # fn # ", in);"; }

def Graph_AbsOp : Graph_Unary<"abs", Fn<"abs">.body>;
def Graph_NegOp : Graph_Unary<"neg", Fn<"neg">.body>;
def Graph_SignOp : Graph_Unary<"sign", Fn<"sign">.body>;
def Graph_CeilOp : Graph_Unary<"ceil", Fn<"ceil">.body>;
def Graph_FloorOp : Graph_Unary<"floor", Fn<"floor">.body>;
def Graph_RoundOp : Graph_Unary<"round", Fn<"round_even">.body>;
def Graph_TruncOp : Graph_Unary<"trunc", Fn<"trunc">.body>;
def Graph_SqrtOp : Graph_Unary<"sqrt", Fn<"sqrt">.body>;
def Graph_RsqrtOp : Graph_Unary<"rsqrt", Fn<"rsqrt">.body>;
def Graph_ExpOp : Graph_Unary<"exp", Fn<"exp">.body>;
def Graph_LogOp : Graph_Unary<"log", Fn<"log">.body>;
def Graph_SinOp : Graph_Unary<"sin", Fn<"sin">.body>;
def Graph_CosOp : Graph_Unary<"cos", Fn<"cos">.body>;
def Graph_TanOp : Graph_Unary<"tan", Fn<"tan">.body>;
def Graph_AsinOp : Graph_Unary<"asin", Fn<"asin">.body>;
def Graph_AcosOp : Graph_Unary<"acos", Fn<"acos">.body>;
def Graph_AtanOp : Graph_Unary<"atan", Fn<"atan">.body>;
def Graph_SinhOp : Graph_Unary<"sinh", Fn<"sinh">.body>;
def Graph_CoshOp : Graph_Unary<"cosh", Fn<"cosh">.body>;
def Graph_TanhOp : Graph_Unary<"tanh", Fn<"tanh">.body>;
def Graph_AsinhOp : Graph_Unary<"asinh", Fn<"asinh">.body>;
def Graph_AcoshOp : Graph_Unary<"acosh", Fn<"acosh">.body>;
def Graph_AtanhOp : Graph_Unary<"atanh", Fn<"atanh">.body>;
def Graph_ErfOp : Graph_Unary<"erf", Fn<"erf">.body>;
def Graph_BitNotOp : Graph_Unary<"bit_not", Fn<"bit_not">.body>;
def Graph_IsNaNOp : Graph_Predicate<"isnan", Fn<"isnan">.body>;

def Graph_AddOp : Graph_Binary<"add", Fn<"add">.body>;
def Graph_SubOp : Graph_Binary<"sub", Fn<"sub">.body>;
def Graph_MulOp : Graph_Binary<"mul", Fn<"mul">.body>;
def Graph_DivOp : Graph_Binary<"div", Fn<"div">.body>;
def Graph_ModOp : Graph_Binary<"mod", Fn<"mod">.body>;
def Graph_RemOp : Graph_Binary<"rem", Fn<"rem">.body>;
def Graph_MaxOp : Graph_Binary<"max", Fn<"max">.body>;
def Graph_MinOp : Graph_Binary<"min", Fn<"min">.body>;
def Graph_BitAndOp : Graph_Binary<"bit_and", Fn<"bit_and">.body>;
def Graph_BitOrOp : Graph_Binary<"bit_or", Fn<"bit_or">.body>;
def Graph_BitXorOp : Graph_Binary<"bit_xor", Fn<"bit_xor">.body>;
def Graph_ShlOp : Graph_Binary<"shl", Fn<"shl">.body>;
def Graph_ShrOp : Graph_Binary<"shr", Fn<"shr">.body>;
def Graph_EqOp : Graph_Compare<"eq", Fn<"eq">.body>;
def Graph_NeOp : Graph_Compare<"ne", Fn<"ne">.body>;
def Graph_LtOp : Graph_Compare<"lt", Fn<"lt">.body>;
def Graph_LeOp : Graph_Compare<"le", Fn<"le">.body>;
def Graph_GtOp : Graph_Compare<"gt", Fn<"gt">.body>;
def Graph_GeOp : Graph_Compare<"ge", Fn<"ge">.body>;

// x ** y; y may have another element type than x.
def Graph_PowOp : Graph_Elementwise<"pow", [{
    return b.apply(ScalarFn::pow, {in[0], in[1]});
  }], "element(0)", (ins AnyRankedTensor:$x, AnyRankedTensor:$y)>;

def Graph_SelectOp : Graph_Elementwise<"select", Fn<"select">.body, "element(1)",
    (ins AnyRankedTensor:$condition, AnyRankedTensor:$x, AnyRankedTensor:$y)>;

// min(max(x, lo), hi)
def Graph_ClipOp : Graph_Elementwise<"clip", [{
    return b.apply(ScalarFn::min, {b.apply(ScalarFn::max, {in[0], in[1]}), in[2]});
  }], "element(0)", (ins AnyRankedTensor:$x, AnyRankedTensor:$lo, AnyRankedTensor:$hi), [SameOperandsElementType]>;

def Graph_IsInfOp : Graph_Elementwise<"isinf", [{
    Value inf = b.apply(ScalarFn::isinf, {in[0]});
    Value zero = b.lit(0.0, in[0].getType());
    if (!op.getDetectPositive()) inf = b.bitAnd(inf, b.apply(ScalarFn::lt, {in[0], zero}));
    if (!op.getDetectNegative()) inf = b.bitAnd(inf, b.apply(ScalarFn::gt, {in[0], zero}));
    return inf;
  }], "i1", (ins AnyRankedTensor:$x, DefaultValuedAttr<BoolAttr, "true">:$detect_positive,
             DefaultValuedAttr<BoolAttr, "true">:$detect_negative)>;

// Converts the element type; see graph.scalar_cast.
def Graph_ConvertOp : Graph_Elementwise<"convert", [{
    return b.cast(in[0], t, op.getSaturate());
  }], "Adaptor(operands, attributes, properties, regions).getTo()",
  (ins AnyRankedTensor:$x, TypeAttr:$to, UnitAttr:$saturate)>;

// Tensors of narrow element types are ui8 codes (NarrowTypes.h): a number's code
// and a code's number, in f32, i8 or ui8. `rounding` is for f8E8M0FNU.
def Graph_EncodeOp : Graph_Elementwise<"encode", [{
    return detail::buildEncode(b, in[0], op.getTo(), op.getSaturate(), static_cast<PowerRounding>(op.getRounding()));
  }], "::mlir::IntegerType::get(context, 8, ::mlir::IntegerType::Unsigned)",
  (ins AnyRankedTensor:$x, TypeAttr:$to, UnitAttr:$saturate, DefaultValuedAttr<I64Attr, "0">:$rounding)>;
def Graph_DecodeOp : Graph_Elementwise<"decode", [{
    return detail::buildDecode(b, in[0], op.getFrom());
  }], "getDecodedType(Adaptor(operands, attributes, properties, regions).getFrom())",
  (ins AnyRankedTensor:$x, TypeAttr:$from)>;

// Activations with their own row, because models use them whole.
def Graph_ReluOp : Graph_Unary<"relu", [{ return b.max(in[0], b.lit(0.0, t)); }]>;
def Graph_SigmoidOp : Graph_Unary<"sigmoid", [{
    Value one = b.lit(1.0, t);
    return b.div(one, b.add(one, b.apply(ScalarFn::exp, {b.neg(in[0])})));
  }]>;
// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), which does not overflow
def Graph_SoftplusOp : Graph_Unary<"softplus", [{
    Value tail = b.apply(ScalarFn::exp, {b.neg(b.apply(ScalarFn::abs, {in[0]}))});
    return b.add(b.max(in[0], b.lit(0.0, t)), b.apply(ScalarFn::log1p, {tail}));
  }]>;
def Graph_SoftsignOp : Graph_Unary<"softsign", [{
    return b.div(in[0], b.add(b.lit(1.0, t), b.apply(ScalarFn::abs, {in[0]})));
  }]>;
def Graph_ReciprocalOp : Graph_Unary<"reciprocal", [{ return b.div(b.lit(1.0, t), in[0]); }]>;
def Graph_LeakyReluOp : Graph_UnaryAttrs<"leaky_relu", [{
    Value neg = b.apply(ScalarFn::lt, {in[0], b.lit(0.0, t)});
    return b.select(neg, b.mul(in[0], b.lit(op.getAlpha().convertToDouble(), t)), in[0]);
  }], (ins F64Attr:$alpha)>;
def Graph_PReluOp : Graph_Binary<"prelu", [{
    return b.select(b.apply(ScalarFn::lt, {in[0], b.lit(0.0, t)}), b.mul(in[0], in[1]), in[0]);
  }]>;
def Graph_EluOp : Graph_UnaryAttrs<"elu", [{
    Value neg = b.mul(b.lit(op.getAlpha().convertToDouble(), t), b.apply(ScalarFn::expm1, {in[0]}));
    return b.select(b.apply(ScalarFn::lt, {in[0], b.lit(0.0, t)}), neg, in[0]);
  }], (ins F64Attr:$alpha)>;
def Graph_SeluOp : Graph_UnaryAttrs<"selu", [{
    Value gamma = b.lit(op.getGamma().convertToDouble(), t);
    Value neg = b.mul(b.lit(op.getAlpha().convertToDouble(), t), b.apply(ScalarFn::expm1, {in[0]}));
    return b.mul(gamma, b.select(b.apply(ScalarFn::le, {in[0], b.lit(0.0, t)}), neg, in[0]));
  }], (ins F64Attr:$alpha, F64Attr:$gamma)>;
// max(0, x) + min(0, alpha * (exp(x / alpha) - 1))
def Graph_CeluOp : Graph_UnaryAttrs<"celu", [{
    Value zero = b.lit(0.0, t), alpha = b.lit(op.getAlpha().convertToDouble(), t);
    Value neg = b.mul(alpha, b.apply(ScalarFn::expm1, {b.div(in[0], alpha)}));
    return b.add(b.max(zero, in[0]), b.min(zero, neg));
  }], (ins F64Attr:$alpha)>;
def Graph_ThresholdedReluOp : Graph_UnaryAttrs<"thresholded_relu", [{
    Value above = b.apply(ScalarFn::gt, {in[0], b.lit(op.getAlpha().convertToDouble(), t)});
    return b.select(above, in[0], b.lit(0.0, t));
  }], (ins F64Attr:$alpha)>;
// max(0, min(1, alpha * x + beta))
def Graph_HardSigmoidOp : Graph_UnaryAttrs<"hard_sigmoid", [{
    Value y = b.add(b.mul(in[0], b.lit(op.getAlpha().convertToDouble(), t)), b.lit(op.getBeta().convertToDouble(), t));
    return b.max(b.lit(0.0, t), b.min(b.lit(1.0, t), y));
  }], (ins F64Attr:$alpha, F64Attr:$beta)>;
// x * max(0, min(1, x / 6 + 1/2))
def Graph_HardSwishOp : Graph_Unary<"hard_swish", [{
    Value y = b.add(b.mul(in[0], b.lit(1.0 / 6.0, t)), b.lit(0.5, t));
    return b.mul(in[0], b.max(b.lit(0.0, t), b.min(b.lit(1.0, t), y)));
  }]>;
// x * sigmoid(alpha * x)
def Graph_SwishOp : Graph_UnaryAttrs<"swish", [{
    Value scaled = b.mul(in[0], b.lit(op.getAlpha().convertToDouble(), t));
    return b.div(in[0], b.add(b.lit(1.0, t), b.apply(ScalarFn::exp, {b.neg(scaled)})));
  }], (ins F64Attr:$alpha)>;
// x * tanh(softplus(x))
def Graph_MishOp : Graph_Unary<"mish", [{
    Value tail = b.apply(ScalarFn::exp, {b.neg(b.apply(ScalarFn::abs, {in[0]}))});
    Value softplus = b.add(b.max(in[0], b.lit(0.0, t)), b.apply(ScalarFn::log1p, {tail}));
    return b.mul(in[0], b.apply(ScalarFn::tanh, {softplus}));
  }]>;
// 0.5 x (1 + erf(x / sqrt 2)), or with `tanh_form` the tanh approximation
def Graph_GeluOp : Graph_UnaryAttrs<"gelu", [{
    Value half = b.mul(b.lit(0.5, t), in[0]), one = b.lit(1.0, t);
    if (!op.getTanhForm())
      return b.mul(half, b.add(one, b.apply(ScalarFn::erf, {b.mul(in[0], b.lit(0.70710678118654752440, t))})));
    Value cube = b.mul(b.lit(0.044715, t), b.mul(in[0], b.mul(in[0], in[0])));
    Value inner = b.mul(b.lit(0.79788456080286535588, t), b.add(in[0], cube));
    return b.mul(half, b.add(one, b.apply(ScalarFn::tanh, {inner})));
  }], (ins UnitAttr:$tanh_form)>;
def Graph_ShrinkOp : Graph_UnaryAttrs<"shrink", [{
    Value lambd = b.lit(op.getLambd().convertToDouble(), t), bias = b.lit(op.getBias().convertToDouble(), t);
    Value low = b.apply(ScalarFn::lt, {in[0], b.neg(lambd)}), high = b.apply(ScalarFn::gt, {in[0], lambd});
    return b.select(low, b.add(in[0], bias), b.select(high, b.sub(in[0], bias), b.lit(0.0, t)));
  }], (ins F64Attr:$lambd, F64Attr:$bias)>;

// ONNX QuantizeLinear after its scale and zero point are broadcast:
// saturate(round_half_even(x / scale) + zero_point); the result has zero_point's type.
def Graph_QuantizeOp : Graph_Elementwise<"quantize", [{
    Type compute = in[1].getType();
    Value q = b.apply(ScalarFn::round_even, {b.div(b.cast(in[0], compute), in[1])});
    return b.cast(b.add(q, b.cast(in[2], compute)), t, /*saturate=*/true);
  }], "element(2)", (ins AnyRankedTensor:$x, AnyRankedTensor:$scale, AnyRankedTensor:$zero_point)>;
// (x - zero_point) * scale in scale's type, the difference exact in i32 for integers.
def Graph_DequantizeOp : Graph_Elementwise<"dequantize", [{
    Type wide = isa<FloatType>(in[0].getType()) ? t : b.i32();
    Value diff = b.sub(b.cast(in[0], wide), b.cast(in[2], wide));
    return b.mul(b.cast(diff, t), in[1]);
  }], "element(1)", (ins AnyRankedTensor:$x, AnyRankedTensor:$scale, AnyRankedTensor:$zero_point)>;

#endif // DLC_GRAPH_ELEMENTWISE_OPS_TD
