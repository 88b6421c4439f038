// Features, the analytic model, and the learned one against XGBoost itself.
#include "TunerTestUtils.h"

#include "dlc/Tuner/Evaluate.h"

#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <random>
#include <xgboost/c_api.h>

using namespace dlc;
using namespace dlc::tuner;
using namespace dlc::test;

TEST(Features, HaveNamesAndAreFinite) {
  ContractionFacts facts;
  facts.rows = 7;
  std::vector<float> values = computeFeatures(facts, {}, {});
  EXPECT_EQ(values.size(), featureNames("contraction").size());
  EXPECT_GE(values.size(), 70u);
  for (float value : values)
    EXPECT_TRUE(std::isfinite(value));
  std::set<std::string> names(featureNames("contraction").begin(),
                              featureNames("contraction").end());
  EXPECT_EQ(names.size(), featureNames("contraction").size());
}

TEST(Features, LoopsToo) {
  LoopFacts facts;
  facts.nest = "row";
  facts.points = 1000;
  facts.folded = facts.innerFold = 300;
  facts.folds = 2;
  auto parsed = LoopFacts::parseJson(facts.toJson());
  ASSERT_TRUE(bool(parsed)) << llvm::toString(parsed.takeError());
  EXPECT_EQ(parsed->toJson(), facts.toJson());
  std::vector<float> values = computeFeatures(facts, {{"width", 16}}, {});
  EXPECT_EQ(values.size(), featureNames("loop").size());
  for (float value : values)
    EXPECT_TRUE(std::isfinite(value));
  EXPECT_GT(analyticSeconds(facts, {{"width", 2}, {"groups", 1}}, {}),
            analyticSeconds(facts, {{"width", 16}, {"groups", 4}}, {}));
  auto scorer = Scorer::create(facts.toJson(), TargetFacts().toJson());
  ASSERT_TRUE(bool(scorer)) << llvm::toString(scorer.takeError());
  EXPECT_EQ(scorer->family, "loop");
  EXPECT_EQ(scorer->features({{"width", 16}}), values);
  EXPECT_NE(errorOf(Scorer::create("{\"nest\":\"x\"}", TargetFacts().toJson()))
                .find("'x' is no nest"),
            std::string::npos);
  EXPECT_NE(featureSchema("loop"), featureSchema("contraction"));
}

TEST(Features, Attention) {
  AttentionFacts facts;
  facts.outer = 12;
  facts.rows = facts.keys = 128;
  facts.inner = facts.columns = 64;
  auto parsed = AttentionFacts::parseJson(facts.toJson());
  ASSERT_TRUE(bool(parsed)) << llvm::toString(parsed.takeError());
  EXPECT_EQ(parsed->toJson(), facts.toJson());
  auto scorer = Scorer::create(facts.toJson(), TargetFacts().toJson());
  ASSERT_TRUE(bool(scorer)) << llvm::toString(scorer.takeError());
  EXPECT_EQ(scorer->family, "attention");
  std::vector<float> values = scorer->features({{"key_tile", 12}});
  EXPECT_EQ(values.size(), featureNames("attention").size());
  for (float value : values)
    EXPECT_TRUE(std::isfinite(value));
  // One accumulator waits, too many spill.
  auto seconds = [&](int64_t tile) {
    return scorer->seconds(
        {{"vectors", 2}, {"key_tile", tile}, {"column_tile", tile}});
  };
  EXPECT_LT(seconds(14), seconds(1));
  EXPECT_LT(seconds(14), seconds(24));
}

// Fields that came later may be missing, the others may not.
TEST(Features, OldRecordsAreRead) {
  LoopFacts facts;
  std::string text = facts.toJson(), window = ",\"window\":false";
  ASSERT_NE(text.find(window), std::string::npos);
  text.erase(text.find(window), window.size());
  EXPECT_TRUE(bool(LoopFacts::parseJson(text)));
  text.erase(text.find(",\"weight\":1"), 11);
  EXPECT_NE(errorOf(LoopFacts::parseJson(text)).find("'weight'"),
            std::string::npos);
}

TEST(Features, FactsRoundTrip) {
  ContractionFacts facts;
  facts.rows = 12;
  facts.strict = true;
  facts.kernel = "abc";
  auto parsed = ContractionFacts::parseJson(facts.toJson());
  ASSERT_TRUE(bool(parsed)) << llvm::toString(parsed.takeError());
  EXPECT_EQ(parsed->toJson(), facts.toJson());
  EXPECT_NE(errorOf(ContractionFacts::parseJson("{\"outer\":1}"))
                .find("workload: field 'rows'"),
            std::string::npos);
}

TEST(Analytic, KnowsTheObvious) {
  ContractionFacts facts;
  facts.rows = facts.columns = facts.depth = 512;
  facts.lhsRow = facts.rhsDepth = 512;
  TargetFacts target;
  auto seconds = [&](KnobValues knobs) {
    return analyticSeconds(facts, knobs, target);
  };
  KnobValues good{{"tile_rows", 14}, {"tile_vectors", 2}, {"rhs", 2}};
  KnobValues tiny = good, spilled = good;
  tiny["tile_rows"] = tiny["tile_vectors"] = 1;
  spilled["tile_rows"] = 24;
  EXPECT_LT(2 * seconds(good), seconds(tiny));
  EXPECT_LT(seconds(good), seconds(spilled));
  // Not below the roofline.
  EXPECT_GT(seconds(good),
            facts.flops() / (target.flopsPerCycle * target.ghz * 1e9));
}

/// Samples of a function that trees can learn.
static std::vector<Sample> makeSamples(unsigned count) {
  std::mt19937 random(3);
  std::vector<Sample> samples;
  for (unsigned i = 0; i < count; ++i) {
    Sample sample;
    for (unsigned f = 0; f < 6; ++f)
      sample.features.push_back(float(random() % 1000) / 100);
    sample.label = -std::abs(sample.features[0] - 4) -
                   (sample.features[1] > 5 ? 1.f : 0.f);
    samples.push_back(sample);
  }
  return samples;
}

TEST(Forest, LearnsAndIsReproducible) {
  std::vector<Sample> samples = makeSamples(400);
  Forest a = llvm::cantFail(Forest::train(samples, {})),
         b = llvm::cantFail(Forest::train(samples, {}));
  double error = 0, spread = 0;
  for (const Sample &sample : samples) {
    float predicted = a.predict(sample.features);
    EXPECT_EQ(predicted, b.predict(sample.features));
    error += std::pow(predicted - sample.label, 2);
    spread += std::pow(sample.label + 3, 2);
  }
  EXPECT_LT(error, 0.05 * spread);
}

// The walk over the trees has the bits of XGBoost's own prediction.
// Several forests say what one of them does not know, and their mean is what is
// predicted.
TEST(Forest, MembersDiffer) {
  std::mt19937_64 random(1);
  std::vector<Sample> samples;
  for (unsigned i = 0; i < 400; ++i) {
    float x = float(random() % 100) / 100, y = float(random() % 100) / 100;
    samples.push_back({{x, y}, x + (i % 8 == 0 ? y : 0), 1, i % 8});
  }
  TrainOptions options;
  options.rounds = 20;
  options.members = 4;
  options.share = 0.5;
  Forest forest = llvm::cantFail(Forest::train(samples, options));
  EXPECT_EQ(forest.getNumMembers(), 4u);
  std::vector<float> each = forest.look({0.5, 0.9}).opinions;
  ASSERT_EQ(each.size(), 4u);
  float sum = 0;
  for (float value : each)
    sum += value;
  EXPECT_FLOAT_EQ(forest.predict({0.5, 0.9}), sum / 4);
  EXPECT_GT(*std::max_element(each.begin(), each.end()),
            *std::min_element(each.begin(), each.end()));
}

TEST(Model, ChoosesUnlike) {
  // Two that are fast for the same reason, one for another, one slow.
  std::vector<Outlook> points{
      {{0.5, 0.1}, {}}, {{0.49, 0.1}, {}}, {{0, 0.4}, {}}, {{-1, -1}, {}}};
  EXPECT_EQ(chooseUnlike(points, {}, 0, 3), (std::vector<unsigned>{0, 2, 1}));
  // What is known already leaves nothing to gain by the first reason; without
  // members that differ it is the order of the means.
  EXPECT_EQ(chooseUnlike(points, {}, 0, 9).size(), 4u);
  std::vector<Outlook> alike{{{0.1f}, {}}, {{0.3f}, {}}, {{0.2f}, {}}};
  Outlook known{{0.5f}, {}};
  EXPECT_EQ(chooseUnlike(alike, known, 0, 3), (std::vector<unsigned>{1, 2, 0}));
}

TEST(Choice, SameLeavesShareTheirError) {
  // The second is the first but for a little; the third falls into other
  // leaves, so that it may be fast where the first is not.
  Outlook first{{0.3f}, {1, 2, 3, 4}}, second{{0.29f}, {1, 2, 3, 4}},
      third{{0.25f}, {5, 6, 7, 8}};
  std::vector<Outlook> points{first, second, third};
  EXPECT_EQ(chooseUnlike(points, {}, 0.1f, 2), (std::vector<unsigned>{0, 2}));
  // A model that is never off is taken at its word.
  EXPECT_EQ(chooseUnlike(points, {}, 0, 2), (std::vector<unsigned>{0, 1}));
  // What is far slower is not measured for its own sake.
  points[2].opinions = {-2};
  EXPECT_EQ(chooseUnlike(points, {}, 0.1f, 2), (std::vector<unsigned>{0, 1}));
}

TEST(Forest, SpreadIsTheErrorOnKernelsThatWereNotLearned) {
  // What a bag adds to its labels no member knows that did not learn it.
  std::vector<Sample> samples = makeSamples(240);
  TrainOptions options = TrainOptions::order();
  auto spreadOf = [&](float own) {
    std::vector<Sample> some = samples;
    for (auto [i, sample] : llvm::enumerate(some)) {
      sample.bag = unsigned(i % 12);
      sample.label = sample.bag % 2 ? own : -own;
    }
    return llvm::cantFail(Forest::train(some, options)).getSpread();
  };
  EXPECT_LT(spreadOf(0), 0.001f);
  float spread = spreadOf(0.05f);
  EXPECT_GT(spread, 0.04f);
  EXPECT_LT(spread, 0.08f);
}

TEST(Forest, PredictsAsXGBoost) {
  std::vector<Sample> samples = makeSamples(300);
  TrainOptions options;
  Forest forest = llvm::cantFail(Forest::train(samples, options));
  std::vector<float> matrix, labels;
  for (const Sample &sample : samples) {
    matrix.insert(matrix.end(), sample.features.begin(), sample.features.end());
    labels.push_back(sample.label);
  }
  DMatrixHandle data;
  BoosterHandle booster;
  ASSERT_EQ(
      XGDMatrixCreateFromMat(matrix.data(), samples.size(), 6, NAN, &data), 0);
  XGDMatrixSetFloatInfo(data, "label", labels.data(), labels.size());
  XGBoosterCreate(&data, 1, &booster);
  for (auto [name, value] :
       std::initializer_list<std::pair<const char *, const char *>>{
           {"objective", "reg:squarederror"},
           {"tree_method", "hist"},
           {"base_score", "0"},
           {"nthread", "1"},
           {"seed", "1"},
           {"max_depth", "6"},
           {"eta", "0.1"},
           {"lambda", "1"},
           {"subsample", "0.9"},
           {"colsample_bytree", "0.8"},
           {"verbosity", "0"}})
    XGBoosterSetParam(booster, name, value);
  for (unsigned i = 0; i < options.rounds; ++i)
    XGBoosterUpdateOneIter(booster, i, data);
  bst_ulong count = 0;
  const float *predicted = nullptr;
  ASSERT_EQ(XGBoosterPredict(booster, data, 0, 0, 0, &count, &predicted), 0);
  ASSERT_EQ(count, samples.size());
  for (size_t i = 0; i < samples.size(); ++i)
    EXPECT_EQ(forest.predict(samples[i].features), predicted[i]) << i;
  XGBoosterFree(booster);
  XGDMatrixFree(data);
}

/// Trials whose speed is that of the analytic model, on some shapes. The
/// default schedule is slow.
static std::vector<Record> makeTrials() {
  std::vector<Record> records;
  std::mt19937 random(5);
  for (int64_t rows : {32, 64, 128, 256, 384, 512})
    for (int i = 0; i < 24; ++i) {
      Record record = makeRecord(i, 1, rows);
      KnobValues slow{{"tile_rows", 1}, {"tile_vectors", 1}, {"rhs", 0}},
          knobs{{"tile_rows", 1 + int64_t(random() % 20)},
                {"tile_vectors", 1 + int64_t(random() % 4)},
                {"rhs", int64_t(random() % 2) * 2}};
      record.isDefault = i == 0;
      if (record.isDefault)
        knobs = slow;
      record.schedule = scheduleJson("contraction", knobs);
      auto facts = llvm::cantFail(ContractionFacts::parseJson(record.workload));
      auto target = llvm::cantFail(TargetFacts::parseJson(record.target));
      record.samples = {1e9 * analyticSeconds(facts, knobs, target)};
      record.reference = {1e9 * analyticSeconds(facts, slow, target)};
      records.push_back(record);
    }
  return records;
}

TEST(CostModel, SaveLoadRefuse) {
  TemporaryFolder folder;
  std::string path = folder / "m.json";
  CostModel model =
      llvm::cantFail(CostModel::train(makeTrials(), "contraction"));
  EXPECT_EQ(model.getNumWorkloads(), 6u);
  llvm::cantFail(model.save(path));
  auto loaded = CostModel::load(path);
  ASSERT_TRUE(bool(loaded)) << llvm::toString(loaded.takeError());
  EXPECT_EQ(loaded->getHash(), model.getHash());
  std::vector<float> plain = computeFeatures(ContractionFacts(), {}, {}),
                     other = computeFeatures(ContractionFacts(),
                                             {{"tile_rows", 3}}, {}),
                     features = relativeFeatures(other, plain);
  ASSERT_EQ(features.size(), 2 * plain.size());
  EXPECT_EQ(features.back(), other.back() - plain.back());
  EXPECT_EQ(loaded->predict(features), model.predict(features));

  std::error_code code;
  llvm::raw_fd_ostream(folder / "other.json", code)
      << R"({"model_version":1,"family":"contraction","feature_schema":"abc","samples":1,)"
         R"("workloads":1,"base":0,"trees":[]})";
  EXPECT_NE(errorOf(CostModel::load(folder / "other.json"))
                .find("was trained for other features"),
            std::string::npos);
  llvm::raw_fd_ostream(folder / "bad.json", code)
      << R"({"model_version":1,"family":"contraction","feature_schema":")"
      << featureSchema("contraction")
      << R"(","samples":1,"workloads":1,"base":0,"trees":[[[1,0,0,0]]]})";
  EXPECT_NE(errorOf(CostModel::load(folder / "bad.json")).find("malformed"),
            std::string::npos);
  EXPECT_NE(errorOf(CostModel::load(folder / "none.json")), "no error");
}

TEST(CostModel, EvaluationFindsWhatIsThere) {
  EvalOptions options;
  options.folds = 3;
  std::vector<Record> records = makeTrials();
  auto all = evaluate(records, "contraction", options);
  ASSERT_TRUE(bool(all)) << llvm::toString(all.takeError());
  const Evaluation *evaluation = &all->all;
  EXPECT_EQ(all->byKind.at("contraction").workloads, 6u);
  EXPECT_EQ(all->byThreads.at(1).workloads, 6u);
  EXPECT_EQ(evaluation->workloads, 6u);
  // The trials follow the analytic model exactly, and dice do not.
  EXPECT_NEAR(evaluation->analytic.top1, 1, 1e-6);
  EXPECT_GT(evaluation->analytic.pairs, 0.999);
  EXPECT_GT(evaluation->model.top5, 0.9);
  EXPECT_GT(evaluation->model.pairs, 0.8);
  EXPECT_LT(evaluation->random.top1, 0.8);
  EXPECT_NEAR(evaluation->random.pairs, 0.5, 0.1);
  // What is promised is found, and five trials find more.
  EXPECT_LT(evaluation->defaults, 0.7);
  EXPECT_GT(evaluation->choice, evaluation->defaults);
  EXPECT_GE(evaluation->quick, evaluation->model.top1);
  EXPECT_LE(evaluation->quick, evaluation->model.top5 + 1e-9);
  // Times that are the analytic model's are known to both.
  EXPECT_LT(evaluation->timeFactor, 1.05);
  EXPECT_LT(evaluation->analyticFactor, 1.001);
  EXPECT_NE(errorOf(evaluate(makeRecord(1, 1), "contraction", options))
                .find("at least 2"),
            std::string::npos);
  options.leavesIsaOut = true;
  EXPECT_NE(errorOf(evaluate(makeTrials(), "contraction", options))
                .find("instruction sets"),
            std::string::npos);
}

// Kernels of another file: no model learns from them, wherever they are.
TEST(CostModel, EvaluationJudgesGivenKernels) {
  std::vector<Record> records = makeTrials(), judged, others;
  for (const Record &record : records)
    (record.workload == records.front().workload ? judged : others)
        .push_back(record);
  EvalOptions options;
  options.judged = judged;
  auto seen = evaluate(records, "contraction", options),
       unseen = evaluate(others, "contraction", options);
  ASSERT_TRUE(bool(seen)) << llvm::toString(seen.takeError());
  ASSERT_TRUE(bool(unseen)) << llvm::toString(unseen.takeError());
  EXPECT_EQ(seen->all.workloads, 1u);
  EXPECT_EQ(seen->all.trials, judged.size());
  EXPECT_EQ(seen->all.model.pairs, unseen->all.model.pairs);
  EXPECT_EQ(seen->all.quick, unseen->all.quick);
  // What it loses is told: what quick tuning measures beside the default.
  ASSERT_EQ(seen->losses.size(), 1u);
  const KernelLoss &loss = seen->losses[0];
  EXPECT_NEAR(loss.quick, seen->all.quick, 1e-9);
  EXPECT_EQ(loss.chosen.size(), 4u);
  EXPECT_NEAR(loss.best.second, 1, 1e-6);
  double best = loss.defaults;
  for (auto &[knobs, speed] : loss.chosen)
    best = std::max(best, speed);
  EXPECT_NEAR(loss.quick, best, 1e-6);
}

// Trials of two machines: what one teaches is asked of the other.
TEST(CostModel, EvaluationLeavesAnInstructionSetOut) {
  std::vector<Record> records = makeTrials(), narrow = records;
  for (Record &record : narrow) {
    auto target = llvm::cantFail(TargetFacts::parseJson(record.target));
    target.vectorBytes = 32;
    target.vectorRegisters = 16;
    record.target = target.toJson();
    auto facts = llvm::cantFail(ContractionFacts::parseJson(record.workload));
    KnobValues knobs = llvm::cantFail(parseKnobs(record.schedule));
    record.samples = {1e9 * analyticSeconds(facts, knobs, target)};
    record.reference = {1e9 * analyticSeconds(facts, {}, target)};
  }
  records.insert(records.end(), narrow.begin(), narrow.end());
  EvalOptions options;
  options.folds = 3;
  options.leavesIsaOut = true;
  auto evaluation = evaluate(records, "contraction", options);
  ASSERT_TRUE(bool(evaluation)) << llvm::toString(evaluation.takeError());
  EXPECT_EQ(evaluation->all.workloads, 12u);
  EXPECT_EQ(evaluation->byKind.size(), 2u);
  EXPECT_EQ(evaluation->byKind.at("256-bit x86 contraction").workloads, 6u);
  EXPECT_GT(evaluation->all.model.top10, 0.9);
}

TEST(CostModel, PredictsTimes) {
  TemporaryFolder folder;
  CostModel model = llvm::cantFail(
      CostModel::train(makeTrials(), "contraction", CostModel::Label::Time));
  llvm::cantFail(model.save(folder / "t.json"));
  CostModel loaded = llvm::cantFail(CostModel::load(folder / "t.json"));
  EXPECT_EQ(loaded.getLabel(), CostModel::Label::Time);
  Record record = makeTrials().front();
  Scorer scorer =
      llvm::cantFail(Scorer::create(record.workload, record.target));
  EXPECT_NEAR(loaded.getSeconds(scorer, {}) / scorer.seconds({}), 1, 0.05);
}

// Searches in recorded trials: who knows other kernels, or the analytic times
// that these trials follow, finds the best at once; chance and mutation do not.
TEST(CostModel, ReplayCountsTrials) {
  EvalOptions options;
  options.folds = 3;
  std::vector<Record> records = makeTrials();
  auto rows = replayPools(records, "contraction", options);
  ASSERT_TRUE(bool(rows)) << llvm::toString(rows.takeError());
  std::map<std::string, ReplayRow> byName;
  for (const ReplayRow &row : *rows)
    byName[row.name] = row;
  EXPECT_EQ(byName.size(), 5u); // all are of one instruction set
  EXPECT_EQ(byName.count("of other ISAs alone"), 0u);
  EXPECT_EQ(byName.at("cold").kernels, 6u);
  EXPECT_EQ(byName.at("cold").below, 6u);
  EXPECT_LE(byName.at("cold").hidden.median, 2); // the default is the first
  EXPECT_LE(byName.at("other kernels known").hidden.median, 4);
  for (const char *name : {"random", "evolution alone", "cold, XGBoost alone"})
    EXPECT_GT(byName.at(name).hidden.median, byName.at("cold").hidden.median)
        << name;
  // The same numbers again.
  auto again = replayPools(records, "contraction", options);
  ASSERT_TRUE(bool(again));
  for (auto [a, b] : llvm::zip_equal(*rows, *again))
    EXPECT_EQ(a.all.p90, b.all.p90) << a.name;
  // Half of them on another machine's instructions.
  std::vector<Record> both = records;
  for (Record record : records) {
    TargetFacts narrow = llvm::cantFail(TargetFacts::parseJson(record.target));
    narrow.vectorBytes = 32;
    record.target = narrow.toJson();
    both.push_back(record);
  }
  rows = replayPools(both, "contraction", options);
  ASSERT_TRUE(bool(rows)) << llvm::toString(rows.takeError());
  EXPECT_EQ(rows->size(), 6u);
  EXPECT_EQ((*rows)[1].name, "of other ISAs alone");
  EXPECT_EQ((*rows)[1].all.median <= (*rows)[5].all.median, true);
  EXPECT_NE(errorOf(replayPools(makeRecord(1, 1), "contraction", options))
                .find("at least 2"),
            std::string::npos);
}

// The best of many times are partly luck: what was measured again counts, and
// what looks even faster is taken to be as lucky as that was.
TEST(CostModel, LuckIsNoSpeed) {
  auto trial = [](int tile, double ratio, unsigned attempt) {
    Record record = makeRecord(tile, ratio);
    record.attempt = attempt;
    return record;
  };
  std::vector<Record> records{trial(1, 1.03, 0), trial(2, 0.50, 0),
                              trial(3, 0.52, 0), trial(4, 0.55, 0),
                              trial(2, 0.60, 1), trial(5, 0.90, 0)};
  records[0].isDefault = true;
  auto groups = llvm::cantFail(groupRecords(records, "contraction"));
  ASSERT_EQ(groups.size(), 1u);
  const Group &group = groups[0];
  ASSERT_EQ(group.samples.size(), 5u);
  std::map<int64_t, double> share; // of the best speed, by tile
  for (auto [point, sample] : llvm::zip_equal(group.points, group.samples))
    share[point.at("tile_rows")] = std::exp(sample.label);
  EXPECT_NEAR(share[2], 1, 1e-5);           // 0.6 of the default's time
  EXPECT_NEAR(share[3], 0.6 / 0.624, 1e-3); // 0.52 by 1.2
  EXPECT_NEAR(share[4], 0.6 / 0.66, 1e-3);
  EXPECT_NEAR(share[5], 0.6 / 0.9, 1e-3);
  EXPECT_NEAR(share[1], 0.6, 1e-3); // the default is itself, whatever it took
  ASSERT_TRUE(group.defaultSample);
  EXPECT_EQ(group.points[*group.defaultSample].at("tile_rows"), 1);
  // The flag is part of the record.
  EXPECT_TRUE(llvm::cantFail(Record::parseJson(records[0].toJson())).isDefault);
  EXPECT_FALSE(
      llvm::cantFail(Record::parseJson(records[1].toJson())).isDefault);
}
