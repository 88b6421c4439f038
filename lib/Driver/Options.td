// The command line of dlc, in one place: the parser, -help and the suggestion
// for a misspelt flag are made from this table.
include "llvm/Option/OptParser.td"

def grp_main : OptionGroup<"main">, HelpText<"GENERAL OPTIONS">;
def grp_shape : OptionGroup<"shape">, HelpText<"SHAPES AND NUMERICS">;
def grp_limits : OptionGroup<"limits">, HelpText<"LIMITS (a model beyond one is rejected)">;
def grp_debug : OptionGroup<"debug">, HelpText<"DEBUGGING">;

class F<string name, string help> : Flag<["-", "--"], name>, HelpText<help>;
class J<string name, string metaVar, string help> : Joined<["-", "--"], name # "=">, MetaVarName<metaVar>, HelpText<help>;

let Group = grp_main in {
def target : J<"target", "<t>", "x86, arm, cuda, host or interp, with keys: x86:cpu=znver4:features=avx2:threads=4, cuda:sm=90a (default: host)">;
def output : JoinedOrSeparate<["-"], "o">, MetaVarName<"<path>">, HelpText<"Output; its extension chooses the kind (.so .a .o .h .mlir .ll .s .json .ptx .cubin); - is standard output">;
def emit : J<"emit", "<kinds>", "Comma-separated: graph, kernels, program, llvm, asm, obj, static, shared, header, report; for cuda: ptx, cubin (default: shared,header). kernel-library: of a manifest, a folder">;
def name : J<"name", "<identifier>", "C name of the model's functions (default: from the file's name)">;
def weights : J<"weights", "<where>", "embed or external (default: embed up to 1 MiB)">;
def fallback : J<"fallback", "<when>", "on: artifacts for cuda hold PTX of the kernels' sm_80 form, too, for devices that the machine code is not for (default); off: machine code only">;
def jobs : JoinedOrSeparate<["-"], "j">, MetaVarName<"<n>">, HelpText<"Kernels compiled at a time (default: the CPUs this process may use)">;
def tune : F<"tune", "Search schedules on this machine (for cuda: on its GPU), keep what was measured in the tuning database, and use the best">;
def tune_mode : J<"tune", "<how>", "lookup: the best schedules of the database, nothing is measured; quick: -tune with 5 trials a kernel; static: -tune with times that are estimated from machine code, for CPUs that are not here; off (default)">;
def tune_budget : J<"tune-budget", "<n|time>", "Trials of all kernels together, or a time: 90s, 10m (default: 32 trials a kernel)">;
def tune_seed : J<"tune-seed", "<n>", "Another seed is another search (default: 1)">;
def tune_dim : J<"tune-dim", "<name>=<n>", "Measure kernels whose size is symbolic where the dim is n, or several: <name>=<n>,<n>; the geometric mean decides (default: the typical size of -dim)">;
def tune_runner : J<"tune-runner", "<command>", "-tune for cuda: words to put before the measuring program's command line, such as a script that runs it on another machine">;
def tuning_db : J<"tuning-db", "<path>", "The tuning database (default: $DLC_TUNING_DB, or dlc/tuning.db in the user's data folder)">;
def libraries : J<"libraries", "<when>", "on: -tune also measures oneDNN (libdnnl.so.3, or what $DLC_ONEDNN names; for cuda cuBLAS and cuDNN, or what $DLC_CUBLAS and $DLC_CUDNN name), and kernels that they compute faster call them at run time; off (default)">;
def verify : F<"verify", "Run the result beside the interpreter on random inputs; exit 4 when they differ">;
def verify_mode : J<"verify", "bisect", "-verify, and when they differ find the first kernel that is wrong, with its inputs in a folder">;
def list_targets : F<"list-targets", "Print the known CPUs">;
def list_ops : F<"list-ops", "Print every ONNX operator, how it is lowered, and its limits">;
def help : F<"help", "Print this text">;
def h : Flag<["-"], "h">, Alias<help>;
def version : F<"version", "Print the version">;
}

let Group = grp_shape in {
def dim : J<"dim", "<name>=<n>", "Give a symbolic dim a size; <name>=<lo>..<hi>@<typical> gives bounds">;
def shape : J<"shape", "<input>:<AxBxC>", "Give an input its shape">;
def fp : J<"fp", "<mode>", "strict: the order of every sum is kept; reassoc: it is free (default); fast-conv: besides, 3x3 convolutions by Winograd's filtering where that is faster (rounds more)">;
def precision : J<"precision", "<p>", "f32 (default); bf16: the factors of float32 products with weights are rounded to bf16, sums stay float32; tf32: for CUDA, the factors of all float32 products are rounded to tf32 as they are multiplied; auto:max-error=<e>: bf16 in as many products as keep max|a-b|/max|b| of every output below e, measured">;
def precision_inputs : J<"precision-inputs", "<npys>", "Comma-separated .npy files, one an input: what -precision=auto measures on (default: random inputs)">;
def fuse : J<"fuse", "<when>", "on: kernels that pay as one become one, and Check proves each (default); off: a kernel an operator">;
def layout : J<"layout", "<how>", "auto: intermediate tensors around convolutions have their channels last where that pays (for CPUs, -fp=reassoc; default); asis: as in the model">;
def variants : J<"variants", "<n>", "Most schedules of a kernel whose size is symbolic, 1 to 3, each for a range of the size (default: 3)">;
def state : J<"state", "<pairs>", "Comma-separated <input>:<output>, or auto (all there are): an output that is Concat of an input and new rows becomes a cache that the model keeps between runs, appended in place">;
def kv : J<"kv", "<form>", "How the caches of -state hold floats: asis (default); int8, int4 or int2, rounded, with a float16 scale for each row of the last axis (int4, int2: for each 32 of it)">;
def force_variant : J<"force-variant", "<i>", "Run variant i of every kernel whatever the size, for tests">, Flags<[HelpHidden]>;
}

let Group = grp_limits in {
def max_nodes : J<"max-nodes", "<n>", "Most nodes in the file, subgraphs and functions included (default: 1000000)">;
def max_expansion : J<"max-expansion", "<n>", "Most nodes after functions are inlined and loops unrolled (default: 1000000)">;
def max_nesting : J<"max-nesting", "<n>", "Most graphs nested in one another (default: 16)">;
def max_unroll : J<"max-unroll", "<n>", "Longest loop that is unrolled, in iterations (default: 256)">;
def max_elements : J<"max-elements", "<n>", "Most elements of one tensor (default: 2^40)">;
def max_bytes : J<"max-bytes", "<n>", "Most bytes of all weights together (default: 2^40)">;
}

let Group = grp_debug in {
def verbose : Flag<["-"], "v">, HelpText<"Say more on standard error">;
def quiet : Flag<["-"], "q">, HelpText<"Only errors on standard error">;
def time_passes : F<"time-passes", "Print the time of every pass">;
def print_ir_after : J<"print-ir-after", "<pass>", "Print the IR after a pass, by its name in dlc-opt, or after every one: all">;
def explain : J<"explain", "<what>", "fusion: print the groups, and why neighbours stayed apart; attention: each one found, and for near misses the condition that fails">;
def dump_dir : J<"dump-dir", "<folder>", "Write the IR after each stage, the code and the report to this folder">;
def plant_fault : J<"plant-fault", "<kind>:<what>", "Break the code of some kernels, for tests of the tests: drop-last:<fold>, swap:<function>, crash:<function>, stray:<function>">, Flags<[HelpHidden]>;
def color : J<"color", "<when>", "auto, always or never">;
def diagnostics : J<"diagnostics", "<form>", "text, or json: errors as one JSON object on standard error">;
}
