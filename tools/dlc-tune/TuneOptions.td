// The command line of dlc-tune.
include "llvm/Option/OptParser.td"

class F<string name, string help> : Flag<["-", "--"], name>, HelpText<help>;
class J<string name, string metaVar, string help> : Joined<["-", "--"], name # "=">, MetaVarName<metaVar>, HelpText<help>;

def store : J<"store", "<path>", "The working store (default: $DLC_TUNING_DB, or dlc/tuning.db in the user's data folder)">;
def output : JoinedOrSeparate<["-"], "o">, MetaVarName<"<path>">, HelpText<"Of merge and export: the file of records; of train: the model; of bundle: the folder">;
def target : J<"target", "<t>", "As for dlc (default: host:threads=1)">;
def matmul : J<"matmul", "<MxNxK>", "tune, replay: a float32 product of these sizes; BxMxNxK is a batch of them">;
def constant : J<"constant", "<which>", "tune, replay: the factor of -matmul= that is a constant of the model: none, lhs or rhs (default: rhs, none of a batch)">;
def libraries : J<"libraries", "<when>", "tune: on: oneDNN (libdnnl.so.3, or what $DLC_ONEDNN names; for cuda cuBLAS and cuDNN, or what $DLC_CUBLAS and $DLC_CUDNN name) is measured, too; off (default)">;
def gaps : F<"gaps", "eval: only the kernels that a library computes faster than our nests">;
def budget : J<"budget", "<n|time>", "tune: trials, or a time such as 90s or 2m (default: 32)">;
def seed : J<"seed", "<n>", "tune, replay: another seed is another run; eval, replay of records: of the parts (default: 1)">;
def search : J<"search", "<how>", "tune, replay: model; evolution or random for comparison (default: model)">;
def model : J<"model", "<path>", "tune, replay: the cost model (default: the one dlc comes with); none: the analytic rules alone">;
def samples : J<"samples", "<n>", "tune: samples of a candidate (default: 9)">;
def jobs : JoinedOrSeparate<["-"], "j">, MetaVarName<"<n>">, HelpText<"tune: candidates compiled at a time (default: one a CPU)">;
def is_static : F<"static", "tune: estimate times from machine code; nothing runs, any CPU will do">;
def workers : J<"workers", "<address>", "tune: measure on ray://<host:port>[/<resource>], ray://local (both need the Python package ray), or processes://<n> (default: here)">;
def tune_runner : J<"tune-runner", "<command>", "tune for a GPU: words to put before the measuring program's command line, such as a script that runs it on another machine">;
def kernels : J<"kernels", "<names>", "survey: comma-separated kernels of the model, as -list names them (default: all)">;
def list_kernels : F<"list", "survey: print the kernels, measure nothing">;
def random : J<"random", "<n>", "survey: random schedules of a kernel (default: 300)">;
def evolution : J<"evolution", "<n>", "survey: trials of an evolution (default: 64)">;
def guided : J<"guided", "<n>", "survey: trials of a search by the model (default: 32)">;
def candidates : J<"candidates", "<n>", "bundle for a GPU: schedules of a kernel, the rules' among them (default: 8)">;
def dim : J<"dim", "<name=n>", "bundle for a GPU: a size of the models, as for dlc">;
def precision : J<"precision", "<p>", "bundle, tune for a GPU: f32 or tf32, as for dlc">;
def keep : J<"keep", "<n>", "prune: the fastest trials of a kernel that stay; bundle: so many, and as many of the others (default: 50)">;
def family : J<"family", "<nests>", "train, eval, replay: contraction, loop, attention or cuda (default: of train contraction, else all)">;
def predict : J<"predict", "<what>", "train: order (of a kernel's schedules; default) or time">;
def leave_out : J<"leave-out", "<what>", "eval: kernels (default), or isa: besides, the models learn from other instruction sets alone">;
def held : J<"held", "<records>", "eval: judge the kernels of this file or folder, by models that learn from all others">;
def worst : J<"worst", "<n>", "eval: name the kernels that lose most by -tune=quick, the schedules that it measures and the best">;
def folds : J<"folds", "<n>", "eval, replay: parts that the kernels are cut into; each is held out once (default: 5)">;
def fewest : J<"fewest", "<n>", "eval, replay: kernels of fewer schedules teach and are not judged (default: 16)">;
def drift : J<"max-drift", "<share>", "train, eval, replay: leave out trials whose reference drifted more (default: no limit)">;
def quiet : Flag<["-"], "q">, HelpText<"No progress">;
def help : F<"help", "Print this text">;
def h : Flag<["-"], "h">, Alias<help>;
