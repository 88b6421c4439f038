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

class StateCheckTest : public ::testing::Test {
protected:
  StateCheckTest() { loadDialects(context); }
  Admission check(const std::string &kept, unsigned bits = 0,
                  NumericsMode mode = NumericsMode::reassoc) {
    auto a = parse(context, before), b = parse(context, kept);
    if (!a || !b)
      return {false, "not parsed"};
    return checkState(a->lookupSymbol<func::FuncOp>("main"),
                      b->lookupSymbol<func::FuncOp>("main"), bits, mode);
  }
  /// `after` with every `from` replaced; a lie that changes nothing fails.
  std::string lie(llvm::StringRef from, llvm::StringRef to) {
    std::string text = after;
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
  MLIRContext context;
};
} // namespace

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
