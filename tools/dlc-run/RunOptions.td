// The command line of dlc-run.
include "llvm/Option/OptParser.td"

class F<string name, string help> : Flag<["-", "--"], name>, HelpText<help>;
class J<string name, string metaVar, string help> : Joined<["-", "--"], name # "=">, MetaVarName<metaVar>, HelpText<help>;

def inputs : J<"inputs", "<files>", "Comma-separated .npy or .pb files, in the model's order">;
def random : J<"random", "<seed>", "Random inputs instead; free dims get their typical value">;
def outputs : J<"outputs", "<folder>", "Write output_<i>.npy to this folder">;
def compare : J<"compare", "<model|folder>", "Compare with the interpreter's run of a model, or with output_<i>.npy or .pb of a folder; prints max|a-b|/max|b|">;
def tolerance : J<"tolerance", "<t>", "Exit 4 when the comparison is above (default: 1e-4)">;
def bench : F<"bench", "Measure: prints the fastest and the median time">;
def threads : J<"threads", "<n>", "Threads to run on (default: DLC_NUM_THREADS, OMP_NUM_THREADS, all)">;
def target : J<"target", "<t>", "Run an ONNX model in the interpreter (interp), or its CUDA kernels on the emulator (cuda, cuda:sm=90a)">;
def emulate : J<"emulate", "<level>", "What the CUDA emulator checks: 0 numbers and deadlocks, 1 also every memory access, 2 also races (default: 0)">;
def access_counts : F<"access-counts", "With -emulate=1 or 2: print what accesses of warps cost, bank cycles of shared and sectors of global memory, the worst first">;
def math : J<"math", "<mode>", "Elementary functions of the interpreter: libm (default), or dlc, those of code for this machine; dlc:<target> for another">;
def dim : J<"dim", "<name>=<n>", "For ONNX models: give a symbolic dim a size">;
def shape : J<"shape", "<input>:<AxB>", "For ONNX models: give an input its shape">;
def info : F<"info", "Print the model's description as JSON and stop">;
def diagnostics : J<"diagnostics", "<form>", "text, or json: errors as one JSON object on standard error">;
def help : F<"help", "Print this text">;
def h : Flag<["-"], "h">, Alias<help>;
