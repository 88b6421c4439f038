// Caches that became state: the right program is shown, every planted lie is
// refused.
#include "dlc/Check/State.h"

#include "Fixtures.h"

#include "gtest/gtest.h"

using namespace mlir;
using namespace dlc;
using namespace dlc::check;
using namespace dlc::test;
using graph::NumericsMode;

namespace {
const char *before = R"mlir(
func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "x"},
    %p: tensor<?x4xf32, #graph.dims<s1, 4>> {graph.name = "p"}, %q: tensor<?x4xf32, #graph.dims<s2, 4>> {graph.name = "q"})
    -> (tensor<?x4xf32, #graph.dims<s1 + s0, 4>> {graph.name = "y"}, tensor<?x4xf32, #graph.dims<s1 + s0, 4>> {graph.name = "op"},
        tensor<?x4xf32, #graph.dims<s2 + s0, 4>> {graph.name = "oq"}) attributes {graph.symbols = ["new", "past", "past2"]} {
  %n = graph.neg %x : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
  %a = graph.concat %p, %x {axis = 0 : i64} : (tensor<?x4xf32, #graph.dims<s1, 4>>, tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  %b = graph.concat %q, %n {axis = 0 : i64} : (tensor<?x4xf32, #graph.dims<s2, 4>>, tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s2 + s0, 4>>
  %c = graph.reshape %b {graph.same_sizes} : (tensor<?x4xf32, #graph.dims<s2 + s0, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  %y = graph.sub %a, %c : (tensor<?x4xf32, #graph.dims<s1 + s0, 4>>, tensor<?x4xf32, #graph.dims<s1 + s0, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  return %y, %a, %b : tensor<?x4xf32, #graph.dims<s1 + s0, 4>>, tensor<?x4xf32, #graph.dims<s1 + s0, 4>>, tensor<?x4xf32, #graph.dims<s2 + s0, 4>>
}
)mlir";

const char *after = R"mlir(
func.func @main(%x: tensor<?x4xf32, #graph.dims<s0, 4>> {graph.name = "x"},
    %p: tensor<?x4xf32, #graph.dims<s3, 4>> {graph.name = "p", graph.state = {axis = 0 : i64, capacity = 3 : i64, length = 1 : i64, output = "op", rows = #graph.dims<s0>}},
    %q: tensor<?x4xf32, #graph.dims<s3, 4>> {graph.name = "q", graph.state = {axis = 0 : i64, capacity = 3 : i64, length = 1 : i64, output = "oq", rows = #graph.dims<s0>}})
    -> (tensor<?x4xf32, #graph.dims<s1 + s0, 4>> {graph.name = "y"}) attributes {graph.symbols = ["new", "past", "past2", "past.capacity"]} {
  %n = graph.neg %x : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s0, 4>>
  %pa = graph.append %p, %x {axis = 0 : i64, at = #graph.dims<s1>} : (tensor<?x4xf32, #graph.dims<s3, 4>>, tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s3, 4>>
  %a = graph.slice %pa {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<?x4xf32, #graph.dims<s3, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  %qa = graph.append %q, %n {axis = 0 : i64, at = #graph.dims<s1>} : (tensor<?x4xf32, #graph.dims<s3, 4>>, tensor<?x4xf32, #graph.dims<s0, 4>>) -> tensor<?x4xf32, #graph.dims<s3, 4>>
  %b = graph.slice %qa {starts = #graph.dims<0, 0>, steps = array<i64: 1, 1>} : (tensor<?x4xf32, #graph.dims<s3, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  %c = graph.reshape %b {graph.same_sizes} : (tensor<?x4xf32, #graph.dims<s1 + s0, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  %y = graph.sub %a, %c : (tensor<?x4xf32, #graph.dims<s1 + s0, 4>>, tensor<?x4xf32, #graph.dims<s1 + s0, 4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
  return %y : tensor<?x4xf32, #graph.dims<s1 + s0, 4>>
}
)mlir";

// Two pools of pages, whose number no input tells; one is written twice.
const char *pools = R"mlir(
func.func @main(%i: tensor<?xi64, #graph.dims<s0>> {graph.name = "i"}, %x: tensor<?x8xf32, #graph.dims<s0, 8>> {graph.name = "x"},
    %p: tensor<?x2x4xf32, #graph.dims<s1, 2, 4>> {graph.name = "p"}, %q: tensor<?x8xf32, #graph.dims<s2, 8>> {graph.name = "q"})
    -> (tensor<?x8xf32, #graph.dims<s1, 8>> {graph.name = "y"}, tensor<?x2x4xf32, #graph.dims<s1, 2, 4>> {graph.name = "op"},
        tensor<?x8xf32, #graph.dims<s2, 8>> {graph.name = "oq"}) attributes {graph.symbols = ["new", "pages", "pages2"]} {
  %v = graph.reshape %p : (tensor<?x2x4xf32, #graph.dims<s1, 2, 4>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %a = graph.scatter %v, %i, %x : (tensor<?x8xf32, #graph.dims<s1, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %n = graph.neg %x : (tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s0, 8>>
  %c = graph.scatter %q, %i, %n : (tensor<?x8xf32, #graph.dims<s2, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s2, 8>>
  %d = graph.scatter %c, %i, %x : (tensor<?x8xf32, #graph.dims<s2, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s2, 8>>
  %y = graph.neg %a : (tensor<?x8xf32, #graph.dims<s1, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %o = graph.reshape %a : (tensor<?x8xf32, #graph.dims<s1, 8>>) -> tensor<?x2x4xf32, #graph.dims<s1, 2, 4>>
  return %y, %o, %d : tensor<?x8xf32, #graph.dims<s1, 8>>, tensor<?x2x4xf32, #graph.dims<s1, 2, 4>>, tensor<?x8xf32, #graph.dims<s2, 8>>
}
)mlir";

const char *poolsKept = R"mlir(
func.func @main(%i: tensor<?xi64, #graph.dims<s0>> {graph.name = "i"}, %x: tensor<?x8xf32, #graph.dims<s0, 8>> {graph.name = "x"},
    %p: tensor<?x2x4xf32, #graph.dims<s1, 2, 4>> {graph.name = "p", graph.state = {axis = 0 : i64, capacity = 1 : i64, length = -1 : i64, output = "op", rows = #graph.dims<0>}},
    %q: tensor<?x8xf32, #graph.dims<s1, 8>> {graph.name = "q", graph.state = {axis = 0 : i64, capacity = 1 : i64, length = -1 : i64, output = "oq", rows = #graph.dims<0>}})
    -> (tensor<?x8xf32, #graph.dims<s1, 8>> {graph.name = "y"}) attributes {graph.symbols = ["new", "pages", "pages2"]} {
  %v = graph.reshape %p : (tensor<?x2x4xf32, #graph.dims<s1, 2, 4>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %a = graph.update %v, %i, %x : (tensor<?x8xf32, #graph.dims<s1, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %n = graph.neg %x : (tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s0, 8>>
  %c = graph.update %q, %i, %n : (tensor<?x8xf32, #graph.dims<s1, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %d = graph.update %c, %i, %x : (tensor<?x8xf32, #graph.dims<s1, 8>>, tensor<?xi64, #graph.dims<s0>>, tensor<?x8xf32, #graph.dims<s0, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  %y = graph.neg %a : (tensor<?x8xf32, #graph.dims<s1, 8>>) -> tensor<?x8xf32, #graph.dims<s1, 8>>
  return %y : tensor<?x8xf32, #graph.dims<s1, 8>>
}
)mlir";

class StateCheckTest : public ::testing::Test {
protected:
  StateCheckTest() { loadDialects(context); }
  Admission check(const std::string &kept, unsigned bits = 0,
                  NumericsMode mode = NumericsMode::reassoc) {
    auto a = parse(context, original), b = parse(context, kept);
    if (!a || !b)
      return {false, "not parsed"};
    return checkState(a->lookupSymbol<func::FuncOp>("main"),
                      b->lookupSymbol<func::FuncOp>("main"), bits, mode);
  }
  /// `after` with every `from` replaced; a lie that changes nothing fails.
  std::string lie(llvm::StringRef from, llvm::StringRef to) {
    std::string text = right;
    size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from.str();
    for (; at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
    return text;
  }
  void refuses(const std::string &kept, llvm::StringRef why) {
    Admission admission = check(kept);
    EXPECT_FALSE(admission.admitted);
    EXPECT_NE(admission.reason.find(why.str()), std::string::npos)
        << admission.reason;
  }
  const char *original = before, *right = after;
  MLIRContext context;
};
} // namespace

TEST_F(StateCheckTest, RowsInTheirPlaces) {
  original = pools;
  right = poolsKept;
  Admission admission = check(right);
  EXPECT_TRUE(admission.admitted) << admission.reason;
  EXPECT_EQ(admission.reason, "");
  refuses(lie("%a = graph.update %v, %i, %x", "%a = graph.update %v, %i, %n"),
          ""); // not defined yet: not even parsed
  refuses(lie("%d = graph.update %c, %i, %x", "%d = graph.update %c, %i, %n"),
          "not computed from the new rows");
  refuses(lie("%c = graph.update %q, %i, %n", "%c = graph.update %q, %i, %x"),
          "not computed from the new rows");
  refuses(lie("%i: tensor<?xi64, #graph.dims<s0>> {graph.name = \"i\"},",
              "%i: tensor<?xi64, #graph.dims<s0>> {graph.name = \"i\"}, %j: "
              "tensor<?xi64, #graph.dims<s0>> {graph.name = \"j\"},"),
          "is not the one it was");
  std::string other = "  %j = graph.neg %i : (tensor<?xi64, #graph.dims<s0>>) "
                      "-> tensor<?xi64, #graph.dims<s0>>\n  %a = graph.update "
                      "%v, %j";
  refuses(lie("  %a = graph.update %v, %i", other), "at other positions");
  refuses(lie("output = \"op\"", "output = \"oq\""), "");
  refuses(lie("output = \"op\"", "output = \"y\""), "rows replaced");
  refuses(lie("capacity = 1", "capacity = 0"), "");
  refuses(lie("length = -1", "length = 1"), "does not append");
  refuses(lie("%d = graph.update %c, %i, %x", "%d = graph.update %q, %i, %x"),
          "other than one update");
  refuses(lie("%y = graph.neg %a", "%y = graph.neg %v"),
          "other than one update");
  refuses(lie("%y = graph.neg %a", "%y = graph.neg %d"), "'graph.neg'");
  refuses(lie("return %y", "return %a"), "output 0");
}

// What is read before rows are replaced, or rows that are added to, is none.
TEST_F(StateCheckTest, OriginalsThatAreNone) {
  right = poolsKept;
  auto wants = [&](llvm::StringRef from, llvm::StringRef to) {
    std::string text = pools;
    size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, from.size(), to);
    original = text.c_str();
    refuses(poolsKept, "rows replaced");
  };
  wants("%a = graph.scatter %v, %i, %x :",
        "%a = graph.scatter %v, %i, %x {kind = #graph<fold add>} :");
  wants("%y = graph.neg %a", "%y = graph.neg %v");
}

TEST_F(StateCheckTest, RightOneIsShown) {
  Admission admission = check(after);
  EXPECT_TRUE(admission.admitted) << admission.reason;
}

TEST_F(StateCheckTest, LiesAreRefused) {
  refuses(lie("%pa = graph.append %p, %x", "%pa = graph.append %p, %n"),
          "not computed from the new rows");
  refuses(lie("%qa = graph.append %q, %n", "%qa = graph.append %q, %x"),
          "not computed from the new rows");
  refuses(lie("at = #graph.dims<s1>", "at = #graph.dims<0>"),
          "not appended at the length");
  refuses(lie("rows = #graph.dims<s0>", "rows = #graph.dims<1>"),
          "not appended at the length");
  refuses(lie("%a = graph.slice %pa {starts = #graph.dims<0, 0>",
              "%a = graph.slice %pa {starts = #graph.dims<1, 0>"),
          "other than the rows in use");
  refuses(lie("graph.slice %pa {starts = #graph.dims<0, 0>, steps = "
              "array<i64: 1, 1>",
              "graph.slice %pa {starts = #graph.dims<0, 0>, steps = "
              "array<i64: 2, 1>"),
          "other than the rows in use");
  refuses(lie("output = \"op\"", "output = \"oq\""), "");
  refuses(lie("output = \"op\"", "output = \"or\""), "that there is not");
  refuses(lie("output = \"op\"", "output = \"y\""), "does not append");
  refuses(lie("graph.sub %a, %c", "graph.sub %c, %a"), "'graph.sub'");
  refuses(lie("graph.sub", "graph.add"), "'graph.sub'");
  refuses(lie("%y = graph.sub %a, %c", "%y = graph.sub %a, %a"), "'graph.sub'");
  refuses(lie("return %y", "return %a"), "output 0");
  refuses(lie("graph.name = \"y\"", "graph.name = \"z\""), "output 0");
  refuses(lie("graph.name = \"x\"", "graph.name = \"z\""), "input 0");
  // A state that somebody else reads too.
  refuses(lie("  %pa = graph.append %p,",
              "  %r = graph.neg %p : (tensor<?x4xf32, #graph.dims<s3, 4>>) -> "
              "tensor<?x4xf32, #graph.dims<s3, 4>>\n"
              "  %pa = graph.append %p,"),
          "other than one append");
  // An operation more.
  refuses(lie("  return %y",
              "  %r = graph.neg %y : (tensor<?x4xf32, #graph.dims<s1 + s0, "
              "4>>) -> tensor<?x4xf32, #graph.dims<s1 + s0, 4>>\n  return %y"),
          "no operation of the original");
}

TEST_F(StateCheckTest, LawOfRounding) {
  // Rounded rows: what is appended and what is read are computed from rows.
  std::string rounded =
      lie("%pa = graph.append %p, %x",
          "%xr = graph.round %x : (tensor<?x4xf32, #graph.dims<s0, 4>>) -> "
          "tensor<?x4xf32, #graph.dims<s0, 4>>\n  %pa = graph.append %p, %xr");
  EXPECT_FALSE(check(rounded).admitted);
  EXPECT_EQ(getRoundingLaw(8), "round(int8)");
  EXPECT_EQ(getRoundingLaw(4), "round(int4)");
  EXPECT_TRUE(check(after, 8).admitted);
  Admission strict = check(after, 8, NumericsMode::strict);
  EXPECT_FALSE(strict.admitted);
  EXPECT_EQ(strict.reason,
            "round(int8): -fp=strict rounds nothing that the model does not");
}
