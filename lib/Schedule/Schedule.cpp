// The two forms of a schedule.
#include "dlc/Schedule/Schedule.h"

#include "mlir/IR/Builders.h"
#include "llvm/Support/JSON.h"

using namespace mlir;
using namespace dlc;
using llvm::Error;
using llvm::Expected;

static constexpr StringLiteral kNest = "nest", kLaws = "laws";

static Error invalid(const Twine &text) {
  return llvm::createStringError("schedule: " + text);
}

static Error addLaw(StringRef text, Schedule &schedule) {
  FailureOr<graph::Law> law = graph::Law::parse(text);
  if (failed(law))
    return invalid("'" + text + "' is no law");
  schedule.laws.push_back(*law);
  return Error::success();
}

//===----------------------------------------------------------------------===//
// The attribute
//===----------------------------------------------------------------------===//

DictionaryAttr Schedule::toAttr(MLIRContext *context) const {
  Builder builder(context);
  SmallVector<NamedAttribute> entries;
  if (!nest.empty())
    entries.push_back(builder.getNamedAttr(kNest, builder.getStringAttr(nest)));
  for (auto &[name, value] : knobs)
    entries.push_back(
        builder.getNamedAttr(name, builder.getI64IntegerAttr(value)));
  if (!laws.empty()) {
    SmallVector<Attribute> texts;
    for (const graph::Law &law : laws)
      texts.push_back(builder.getStringAttr(law.str()));
    entries.push_back(builder.getNamedAttr(kLaws, builder.getArrayAttr(texts)));
  }
  return builder.getDictionaryAttr(entries);
}

Expected<Schedule> Schedule::fromAttr(DictionaryAttr attr) {
  Schedule schedule;
  for (NamedAttribute entry : attr) {
    StringRef name = entry.getName();
    if (name == kNest && isa<StringAttr>(entry.getValue())) {
      schedule.nest = cast<StringAttr>(entry.getValue()).str();
    } else if (auto laws = dyn_cast<ArrayAttr>(entry.getValue());
               laws && name == kLaws) {
      for (Attribute law : laws) {
        auto text = dyn_cast<StringAttr>(law);
        if (!text)
          return invalid("laws are strings");
        if (Error error = addLaw(text.getValue(), schedule))
          return error;
      }
    } else if (auto number = dyn_cast<IntegerAttr>(entry.getValue());
               number && name != kNest && name != kLaws) {
      schedule.knobs[name.str()] = number.getInt();
    } else {
      return invalid("'" + name + "' has no such value");
    }
  }
  return schedule;
}

Expected<Schedule> dlc::getSchedule(graph::KernelOp kernel) {
  if (DictionaryAttr attr = kernel.getScheduleAttr())
    return Schedule::fromAttr(attr);
  return Schedule();
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

std::string Schedule::toJson() const {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream out(os);
  out.object([&] {
    if (!nest.empty())
      out.attribute(kNest, nest);
    for (auto &[name, value] : knobs)
      out.attribute(name, value);
    if (!laws.empty())
      out.attributeArray(kLaws, [&] {
        for (const graph::Law &law : laws)
          out.value(law.str());
      });
  });
  return text;
}

Expected<Schedule> Schedule::parseJson(StringRef text) {
  Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (!value)
    return value.takeError();
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return invalid("expected a JSON object");
  Schedule schedule;
  for (auto &[key, entry] : *object) {
    StringRef name = key;
    if (auto nest = entry.getAsString(); nest && name == kNest) {
      schedule.nest = nest->str();
    } else if (auto *laws = entry.getAsArray(); laws && name == kLaws) {
      for (const llvm::json::Value &law : *laws)
        if (Error error = addLaw(law.getAsString().value_or(""), schedule))
          return error;
    } else if (auto number = entry.getAsInteger();
               number && name != kNest && name != kLaws) {
      schedule.knobs[name.str()] = *number;
    } else {
      return invalid("'" + name + "' has no such value");
    }
  }
  return schedule;
}

//===----------------------------------------------------------------------===//
// Laws
//===----------------------------------------------------------------------===//

bool dlc::hasLaw(graph::KernelOp kernel, const graph::Law &law) {
  DictionaryAttr attr = kernel.getScheduleAttr();
  auto laws = attr ? attr.getAs<ArrayAttr>(kLaws) : ArrayAttr();
  return laws && llvm::any_of(laws, [&](Attribute named) {
           auto text = dyn_cast<StringAttr>(named);
           return text && text.getValue() == law.str();
         });
}

std::vector<graph::Law> dlc::defaultLaws(graph::KernelOp kernel,
                                         graph::NumericsMode mode) {
  std::vector<graph::Law> laws;
  for (graph::StageOp stage : kernel.getStages()) {
    graph::FoldKind fold = stage.getFoldKind();
    if (fold == graph::FoldKind::none)
      continue;
    bool isRounded =
        isa<FloatType>(stage.getElementType()) &&
        (fold == graph::FoldKind::add || fold == graph::FoldKind::mul);
    if (isRounded && mode == graph::NumericsMode::strict)
      continue; // computed in order
    for (graph::LawKind kind : {graph::LawKind::split, graph::LawKind::reorder})
      if (graph::Law law{kind, fold}; !llvm::is_contained(laws, law))
        laws.push_back(law);
    if (graph::Law law{graph::LawKind::flush, fold};
        mode != graph::NumericsMode::strict && graph::sumsBf16Products(stage) &&
        !llvm::is_contained(laws, law))
      laws.push_back(law);
  }
  return laws;
}
