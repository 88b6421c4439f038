// What is best known of a kernel: many uniformly random schedules, an evolution
// and a search by the model, and the fastest of all again with more samples.
// What models and searches are judged by.
#ifndef DLC_TUNER_SURVEY_H
#define DLC_TUNER_SURVEY_H

#include "dlc/Tuner/Tune.h"

namespace dlc::tuner {

struct SurveyOptions {
  /// Trials of each search; 0: it is left out.
  unsigned random = 300, evolution = 64, guided = 32;
  unsigned again = 10; ///< of all, the fastest that are measured again
  /// Of all three; `guide` and budgets are the survey's own.
  TuneOptions tune;
};

struct SurveyResult {
  unsigned trials = 0, failed = 0; ///< those of the store included
  unsigned schedules = 0;          ///< distinct
  double best = 1;                 ///< time over the default's, measured again
};

/// Surveys `task`; `base` guides the third search. Trials that `store` holds
/// are not repeated: a survey that was cut goes on.
llvm::Expected<SurveyResult> survey(const Task &task, const CostModel *base,
                                    Store *store, const SurveyOptions &options);

} // namespace dlc::tuner

#endif // DLC_TUNER_SURVEY_H
