// From a manifest's JSON to operations and their instances.
#include "Operations.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace dlc::library;
using llvm::ArrayRef;
using llvm::StringRef;

char ManifestError::ID = 0;

void ManifestError::log(llvm::raw_ostream &os) const {
  llvm::interleave(
      problems, os,
      [&](const ManifestProblem &p) { os << p.path << ": " << p.reason; },
      "\n");
}
std::error_code ManifestError::convertToErrorCode() const {
  return std::make_error_code(std::errc::invalid_argument);
}

// Instances of one entry; more are a mistake.
static constexpr size_t kMostInstances = 512;

static bool isIdentifier(StringRef name) {
  return !name.empty() && (llvm::isAlpha(name[0]) || name[0] == '_') &&
         llvm::all_of(name,
                      [](char c) { return llvm::isAlnum(c) || c == '_'; });
}

//===----------------------------------------------------------------------===//
// Sizes and instances
//===----------------------------------------------------------------------===//

// The dim of this name; null, and a problem, where there is none.
static Dim *findDim(Operation &op, StringRef name, const Reader &place) {
  std::vector<StringRef> names;
  for (Dim &dim : op.dims) {
    if (dim.name == name)
      return &dim;
    names.push_back(dim.name);
  }
  place.fail(name, "'" + op.kind + "' has no dim of this name" +
                       suggest(name, names));
  return nullptr;
}

static void readDims(Operation &op, const Reader &json) {
  if (!json.has("dims"))
    return;
  Reader dims = json.at("dims");
  if (!dims.get().is_object()) {
    dims.fail("expected an object: dim -> size or range");
    return;
  }
  for (auto &[name, unused] : dims.get().items())
    if (Dim *dim = findDim(op, name, dims)) {
      Range range = dims.at(name).getRange();
      bool keeps = dims.at(name).get() == "any";
      if (keeps)
        range.typical = dim->range.typical;
      dim->range = range;
    }
}

static bool contains(const Range &outer, const Range &inner) {
  return outer.min <= inner.min && inner.max <= outer.max;
}

static std::string show(const Range &range) {
  std::string text = std::to_string(range.min) + "..";
  return range.max == INT64_MAX ? text : text + std::to_string(range.max);
}

// What an operation says of sizes that do not go together.
static bool checkSizes(const Operation &op, ArrayRef<Range> ranges,
                       const Reader &place) {
  std::string reason = op.checkSizes ? op.checkSizes(ranges) : "";
  if (!reason.empty())
    place.fail(reason);
  return reason.empty();
}

// A shape's dims; lists of sizes are all combinations.
static void readShape(Operation &op, const Reader &shape,
                      std::vector<std::vector<Range>> &shapes) {
  if (!shape.get().is_object()) {
    shape.fail("expected an object: dim -> size, range or list of those");
    return;
  }
  std::vector<std::vector<Range>> found(1);
  for (const Dim &dim : op.dims)
    found[0].push_back(dim.range);
  for (auto &[name, value] : shape.get().items()) {
    Dim *dim = findDim(op, name, shape);
    if (!dim)
      continue;
    size_t index = dim - op.dims.data();
    std::vector<Range> choices;
    auto choose = [&](const Reader &place) {
      size_t before = place.countProblems();
      Range range = place.get() == "any" ? dim->range : place.getRange();
      if (place.countProblems() != before)
        return;
      if (!contains(dim->range, range))
        place.fail("is outside of the range of '" + dim->name + "', " +
                   show(dim->range));
      else
        choices.push_back(range);
    };
    Reader place = shape.at(name);
    if (value.is_array())
      for (size_t i = 0; i < value.size(); ++i)
        choose(place.at(i));
    else
      choose(place);
    std::vector<std::vector<Range>> longer;
    for (const auto &ranges : found)
      for (const Range &choice : choices) {
        longer.push_back(ranges);
        longer.back()[index] = choice;
        if (longer.size() > kMostInstances) {
          shape.fail("has more than " + std::to_string(kMostInstances) +
                     " combinations");
          return;
        }
      }
    if (choices.empty())
      return;
    found = std::move(longer);
  }
  for (size_t i = 0; i < op.dims.size(); ++i)
    if (op.dims[i].mustBeFixed && !found[0][i].isFixed()) {
      shape.fail("'" + op.dims[i].name +
                 "' needs one size here or in 'dims': code for '" + op.kind +
                 "' is made for known sizes of it");
      return;
    }
  for (const auto &ranges : found)
    if (!checkSizes(op, ranges, shape))
      return;
  shapes.insert(shapes.end(), found.begin(), found.end());
}

static std::string nameInstance(const Operation &op, ArrayRef<Range> ranges) {
  std::string name;
  for (auto [dim, range] : llvm::zip_equal(op.dims, ranges)) {
    if (range.isFixed() && dim.range.isFixed())
      continue;
    if (range.isFixed())
      name += (name.empty() ? "" : "_") + dim.name + std::to_string(range.min);
    else if (range.min != dim.range.min || range.max != dim.range.max)
      name += (name.empty() ? "" : "_") + dim.name + std::to_string(range.min) +
              "to" + std::to_string(range.max);
  }
  return name.empty() ? "any" : name;
}

static bool isSame(ArrayRef<Range> a, ArrayRef<Range> b) {
  return llvm::all_of(llvm::zip_equal(a, b), [](auto pair) {
    auto &[x, y] = pair;
    return x.min == y.min && x.max == y.max;
  });
}

static void addOne(Operation &op, std::vector<Range> ranges, unsigned variants,
                   bool isGeneral) {
  if (llvm::any_of(op.instances, [&](const Instance &other) {
        return isSame(other.ranges, ranges);
      }))
    return;
  Instance instance;
  instance.name = nameInstance(op, ranges);
  instance.ranges = std::move(ranges);
  instance.variants = variants;
  instance.isGeneral = isGeneral;
  op.instances.push_back(std::move(instance));
}

// An instance, and `withSpecial` another for each special range within its own.
static void addInstance(Operation &op, const std::vector<Range> &ranges,
                        unsigned variants, bool isGeneral, bool withSpecial) {
  for (auto [i, dim] : llvm::enumerate(op.dims))
    for (const Range &range : dim.special)
      if (withSpecial && !ranges[i].isFixed() && ranges[i].min <= range.min &&
          ranges[i].max >= range.max) {
        auto narrow = ranges;
        narrow[i] = range;
        addOne(op, narrow, variants, false);
      }
  addOne(op, ranges, variants, isGeneral);
}

// Which instances there are, by level (docs/kernel-library.md).
static void addInstances(Operation &op, const Reader &json, int64_t level) {
  std::vector<std::vector<Range>> shapes;
  size_t before = json.countProblems();
  if (json.has("shapes")) {
    Reader list = json.at("shapes");
    if (!list.get().is_array())
      list.fail("expected a list of shapes");
    else
      for (size_t i = 0; i < list.get().size(); ++i)
        readShape(op, list.at(i), shapes);
  }
  if (json.countProblems() != before)
    return;
  bool isGeneral = llvm::all_of(op.dims, [](const Dim &dim) {
    return !dim.mustBeFixed || dim.range.isFixed();
  });
  if (!isGeneral && shapes.empty()) {
    for (const Dim &dim : op.dims)
      if (dim.mustBeFixed && !dim.range.isFixed()) {
        json.fail("'" + dim.name +
                  "' needs a size, in 'dims' or in each of "
                  "'shapes': code for '" +
                  op.kind + "' is made for known sizes of it");
        return;
      }
  }
  unsigned variants = level == 0 ? 1 : 3;
  bool withSpecial = level > 0;
  if (level >= 2 || !isGeneral)
    for (const auto &shape : shapes) {
      if (level >= 3)
        for (size_t i = 0; i < shape.size(); ++i)
          if (!shape[i].isFixed()) {
            auto ranges = shape;
            for (int64_t size : {int64_t(1), shape[i].typical})
              if (size >= shape[i].min && size <= shape[i].max) {
                ranges[i] = {size, size, size};
                addInstance(op, ranges, variants, false, withSpecial);
              }
          }
      addInstance(op, shape, variants, false, withSpecial);
    }
  std::vector<Range> all;
  for (const Dim &dim : op.dims)
    all.push_back(dim.range);
  if (isGeneral && checkSizes(op, all, json))
    addInstance(op, all, variants, true, withSpecial);
  // The narrowest first: the first that fits is run.
  std::vector<std::tuple<int64_t, int64_t, size_t>> order;
  for (auto [i, instance] : llvm::enumerate(op.instances))
    order.push_back(
        {-llvm::count_if(instance.ranges,
                         [](const Range &r) { return r.isFixed(); }),
         -llvm::count_if(instance.ranges,
                         [](const Range &r) { return !r.isFree(); }),
         i});
  llvm::sort(order);
  std::vector<Instance> sorted;
  for (auto &[fixed, bounded, i] : order)
    sorted.push_back(std::move(op.instances[i]));
  op.instances = std::move(sorted);
  if (op.instances.size() > kMostInstances)
    json.fail("has " + std::to_string(op.instances.size()) +
              " instances; expected at most " + std::to_string(kMostInstances));
  // What the function takes: the hull of its instances.
  for (auto [i, dim] : llvm::enumerate(op.dims)) {
    Range hull = op.instances.empty() ? dim.range : op.instances[0].ranges[i];
    for (const Instance &instance : op.instances) {
      hull.min = std::min(hull.min, instance.ranges[i].min);
      hull.max = std::max(hull.max, instance.ranges[i].max);
    }
    hull.typical = std::clamp(dim.range.typical, hull.min, hull.max);
    dim.range = hull;
  }
}

//===----------------------------------------------------------------------===//
// The manifest
//===----------------------------------------------------------------------===//

static void readEntry(const Reader &json, int64_t level, Library &library) {
  static const StringRef common[] = {"op",   "name",   "dtypes",
                                     "dims", "shapes", "level"};
  if (!json.get().is_object()) {
    json.isObject({});
    return;
  }
  std::vector<StringRef> names;
  for (const Kind &kind : getKinds())
    names.push_back(kind.name);
  if (!json.has("op"))
    return json.fail("op",
                     "is missing; expected one of " + llvm::join(names, ", "));
  size_t before = json.countProblems();
  std::string name = json.getString("op", "", names);
  if (json.countProblems() != before)
    return;
  const Kind &kind = *llvm::find_if(
      getKinds(), [&](const Kind &kind) { return kind.name == name; });
  std::vector<StringRef> known(common, std::end(common));
  known.insert(known.end(), kind.keys.begin(), kind.keys.end());
  json.isObject(known);
  level = json.getInt("level", level, 0, 3);
  std::string own = json.getString("name", "");
  if (json.has("name") && !isIdentifier(own))
    json.fail("name", "'" + own + "' is not a C identifier");
  for (const std::string &type :
       json.getStrings("dtypes", {"f32"}, kind.types)) {
    before = json.countProblems();
    Entry entry{json, *findType(type)};
    for (Operation &op : kind.make(entry)) {
      if (json.countProblems() == before)
        readDims(op, json);
      if (json.countProblems() == before)
        addInstances(op, json, level);
      if (llvm::any_of(library.operations, [&](const Operation &other) {
            return other.name == op.name;
          }))
        json.fail("name", "there are two operations '" + op.name +
                              "'; give one of them a name");
      library.operations.push_back(std::move(op));
    }
    if (json.countProblems() != before)
      return; // the same again for each type
  }
}

static int64_t readBudget(const Reader &json) {
  if (!json.has("budget"))
    return 0;
  const Json &value = json.get()["budget"];
  double number = 0;
  StringRef text;
  std::string storage;
  if (value.is_string()) {
    storage = value.get<std::string>();
    text = storage;
    double unit = text.consume_back("MB")   ? 1e6
                  : text.consume_back("KB") ? 1e3
                                            : 0;
    if (unit && !text.trim().getAsDouble(number) && number > 0 && number < 1e6)
      return static_cast<int64_t>(number * unit);
  }
  json.fail("budget", "expected a text such as \"20 MB\" or \"800 KB\"");
  return 0;
}

llvm::Expected<Library> dlc::library::readManifest(StringRef text,
                                                   StringRef name) {
  std::vector<ManifestProblem> problems;
  Library library;
  library.name = name.str();
  Json root;
  try {
    root = Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error &error) {
    StringRef before = text.take_front(error.byte ? error.byte - 1 : 0);
    size_t line = before.count('\n') + 1;
    size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    // What comes behind "parse error at line 1, column 2: ".
    std::string what = error.what();
    size_t colon = what.find(": ");
    problems.push_back(
        {"line " + std::to_string(line) + ", column " + std::to_string(column),
         "is not JSON: " +
             (colon == std::string::npos ? what : what.substr(colon + 2))});
    return llvm::make_error<ManifestError>(std::move(problems));
  }
  Reader json(root, "$", problems);
  static const StringRef known[] = {"$schema",     "schema_version", "name",
                                    "description", "level",          "budget",
                                    "cpus",        "operations"};
  if (json.isObject(known)) {
    if (!json.has("schema_version"))
      json.fail("schema_version", "is missing; expected 1");
    json.getInt("schema_version", 1, 1, 1);
    library.name = json.getString("name", name);
    if (!isIdentifier(library.name))
      json.fail("name", "'" + library.name + "' is not a C identifier");
    library.description = json.getString("description", "");
    library.budgetBytes = readBudget(json);
    library.cpus = json.getStrings("cpus", {});
    int64_t level = json.getInt("level", 2, 0, 3);
    if (!json.has("operations") || !json.at("operations").get().is_array() ||
        json.at("operations").get().empty()) {
      json.fail("operations", "expected a list of operations");
    } else {
      Reader list = json.at("operations");
      for (size_t i = 0; i < list.get().size(); ++i)
        readEntry(list.at(i), level, library);
    }
  }
  if (!problems.empty())
    return llvm::make_error<ManifestError>(std::move(problems));
  return library;
}
