// Elementwise expressions: "silu(gate) * up + 0.5". A parser by descent that
// makes a node of each operator, so that the expression is one kernel in the
// end.
#include "Operations.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

namespace {
// Functions of an expression: ONNX's operator and how many operands it has.
struct Function {
  StringRef name, op;
  unsigned arity;
};

class Parser {
public:
  // Without `writer` only the syntax is checked.
  Parser(StringRef text, const llvm::StringSet<> &inputs,
         const ElementType &type, ModelWriter *writer)
      : rest(text), inputs(inputs), type(type), writer(writer) {}

  std::string parse() {
    std::string value = parseSum();
    skip();
    if (problem.empty() && !rest.empty())
      fail("unexpected '" + rest.str() + "'");
    return value;
  }
  std::string problem;

private:
  void skip() { rest = rest.ltrim(); }
  bool take(StringRef text) {
    skip();
    return rest.consume_front(text);
  }
  std::string fail(const std::string &reason) {
    if (problem.empty())
      problem = reason;
    rest = "";
    return "";
  }
  std::string emit(StringRef op, ArrayRef<std::string> operands) {
    return writer && problem.empty() ? writer->add(op, operands) : "";
  }
  std::string parseSum() {
    std::string left = parseProduct();
    for (;;) {
      if (take("+"))
        left = emit("Add", {left, parseProduct()});
      else if (take("-"))
        left = emit("Sub", {left, parseProduct()});
      else
        return left;
    }
  }
  std::string parseProduct() {
    std::string left = parseSigned();
    for (;;) {
      if (take("*"))
        left = emit("Mul", {left, parseSigned()});
      else if (take("/"))
        left = emit("Div", {left, parseSigned()});
      else
        return left;
    }
  }
  std::string parseSigned() {
    if (take("-"))
      return emit("Neg", {parseSigned()});
    return parsePrimary();
  }
  std::string parsePrimary();
  std::string parseCall(StringRef name);

  StringRef rest;
  const llvm::StringSet<> &inputs;
  const ElementType &type;
  ModelWriter *writer;
  unsigned depth = 0;
};
} // namespace

static ArrayRef<Function> getFunctions() {
  static const Function functions[] = {
      {"abs", "Abs", 1},   {"neg", "Neg", 1},     {"exp", "Exp", 1},
      {"log", "Log", 1},   {"sqrt", "Sqrt", 1},   {"sin", "Sin", 1},
      {"cos", "Cos", 1},   {"tanh", "Tanh", 1},   {"erf", "Erf", 1},
      {"relu", "", 1},     {"gelu", "", 1},       {"gelu_tanh", "", 1},
      {"silu", "", 1},     {"sigmoid", "", 1},    {"floor", "Floor", 1},
      {"ceil", "Ceil", 1}, {"round", "Round", 1}, {"max", "Max", 2},
      {"min", "Min", 2},   {"pow", "Pow", 2},
  };
  return functions;
}

std::string Parser::parseCall(StringRef name) {
  std::vector<std::string> operands;
  if (!take(")"))
    do
      operands.push_back(parseSum());
    while (problem.empty() && take(","));
  if (problem.empty() && operands.empty())
    return fail("'" + name.str() + "' has no operand");
  if (!operands.empty() && problem.empty() && !take(")"))
    return fail("expected ')' behind the operands of '" + name.str() + "'");
  std::vector<StringRef> names;
  for (const Function &function : getFunctions()) {
    names.push_back(function.name);
    if (function.name != name)
      continue;
    if (problem.empty() && operands.size() != function.arity)
      return fail("'" + name.str() + "' has " +
                  std::to_string(operands.size()) + " operands; expected " +
                  std::to_string(function.arity));
    if (!function.op.empty())
      return emit(function.op, operands);
    return writer && problem.empty()
               ? emitActivation(*writer, name, operands[0])
               : "";
  }
  return fail("'" + name.str() + "' is no function" + suggest(name, names));
}

std::string Parser::parsePrimary() {
  skip();
  if (++depth > 200)
    return fail("is nested too deep");
  if (take("(")) {
    std::string value = parseSum();
    if (problem.empty() && !take(")"))
      return fail("expected ')' before '" + rest.str() + "'");
    --depth;
    return value;
  }
  auto isWord = [](char c) { return llvm::isAlnum(c) || c == '_'; };
  if (!rest.empty() && (llvm::isDigit(rest[0]) || rest[0] == '.')) {
    size_t length = 0;
    while (length < rest.size() &&
           (isWord(rest[length]) || rest[length] == '.' ||
            ((rest[length] == '-' || rest[length] == '+') && length > 0 &&
             (rest[length - 1] == 'e' || rest[length - 1] == 'E'))))
      ++length;
    StringRef text = rest.take_front(length);
    rest = rest.drop_front(length);
    double number;
    if (text.getAsDouble(number))
      return fail("'" + text.str() + "' is no number");
    --depth;
    return writer ? writer->scalar(number, type) : "";
  }
  StringRef word = rest.take_while(isWord);
  if (word.empty())
    return fail(rest.empty() ? "ends where an operand is expected"
                             : "unexpected '" + rest.str() + "'");
  rest = rest.drop_front(word.size());
  --depth;
  if (take("("))
    return parseCall(word);
  if (inputs.contains(word))
    return word.str();
  std::vector<StringRef> names;
  for (auto &input : inputs)
    names.push_back(input.getKey());
  llvm::sort(names);
  return fail("'" + word.str() + "' is no input" + suggest(word, names));
}

// A parameter's name in C and C++.
static bool isParameter(StringRef name) {
  static const llvm::StringSet<> keywords = {
      "auto",     "bool",      "break",    "case",     "catch",   "char",
      "class",    "const",     "continue", "default",  "delete",  "do",
      "double",   "else",      "enum",     "extern",   "false",   "float",
      "for",      "friend",    "goto",     "if",       "inline",  "int",
      "long",     "namespace", "new",      "operator", "private", "public",
      "register", "restrict",  "return",   "short",    "signed",  "sizeof",
      "static",   "struct",    "switch",   "template", "this",    "throw",
      "true",     "try",       "typedef",  "typename", "union",   "unsigned",
      "using",    "virtual",   "void",     "volatile", "while",   "y"};
  return !name.empty() && llvm::isAlpha(name[0]) &&
         llvm::all_of(name,
                      [](char c) { return llvm::isAlnum(c) || c == '_'; }) &&
         !keywords.contains(name);
}

// A list of dims' names and sizes.
static std::vector<Extent> readShape(OperationBuilder &b, const Reader &json) {
  std::vector<Extent> extents;
  if (!json.get().is_array()) {
    json.fail("expected a list of dims, such as [\"rows\", \"columns\"]");
    return extents;
  }
  for (size_t i = 0; i < json.get().size(); ++i) {
    const Json &element = json.get()[i];
    if (element.is_number_unsigned() &&
        element.get<uint64_t>() < (1ull << 40)) {
      extents.push_back(OperationBuilder::constant(element.get<int64_t>()));
      continue;
    }
    std::string name = element.is_string() ? element.get<std::string>() : "";
    if (!isParameter(name)) {
      json.at(i).fail("expected a size or the name of a dim: a C identifier "
                      "other than 'y'");
      continue;
    }
    if (llvm::none_of(b.op.dims, [&](const Dim &d) { return d.name == name; }))
      b.dim(name, false, 1024);
    extents.push_back(b[name]);
  }
  return extents;
}

std::vector<Operation> dlc::library::makeElementwise(const Entry &entry) {
  const Reader &json = entry.json;
  std::string text = json.getString("expression", "");
  if (!json.has("name"))
    json.fail("name", "is missing: an expression has no name of its own");
  OperationBuilder b(entry, "elementwise", "elementwise");
  llvm::StringSet<> inputs;
  if (!json.has("inputs") || !json.at("inputs").get().is_object() ||
      json.at("inputs").get().empty()) {
    json.fail("inputs", "expected an object: name -> shape");
    return {};
  }
  std::vector<Extent> shape;
  Reader list = json.at("inputs");
  // The result's dims come first.
  if (json.has("shape"))
    shape = readShape(b, json.at("shape"));
  for (auto &[name, unused] : list.get().items()) {
    if (!isParameter(name)) {
      list.fail(name, "expected a C identifier other than 'y'");
      continue;
    }
    auto extents = readShape(b, list.at(name));
    if (!json.has("shape") && extents.size() > shape.size())
      shape = extents;
    b.input(name, b.type, extents);
    inputs.insert(name);
  }
  b.output("y", b.type, shape);
  for (const Dim &dim : b.op.dims)
    if (inputs.contains(dim.name))
      list.fail(dim.name, "is the name of a dim, too");
  Parser check(text, inputs, b.type, nullptr);
  check.parse();
  if (!check.problem.empty())
    json.fail("expression", check.problem);
  b.setAttribute("expression", text);
  const ElementType *type = &b.type;
  return {b.take("y = " + text,
                 [text, inputs, type](ModelWriter &w, ArrayRef<Range>) {
                   Parser parser(text, inputs, *type, &w);
                   w.finish(parser.parse(), "y");
                 })};
}
