// The command line of dlc-reduce.
include "llvm/Option/OptParser.td"

class F<string name, string help> : Flag<["-", "--"], name>, HelpText<help>;
class J<string name, string metaVar, string help> : Joined<["-", "--"], name # "=">, MetaVarName<metaVar>, HelpText<help>;

def mismatch : F<"mismatch", "Keep that the compiled model differs from the interpreter (dlc -verify)">;
def crash : F<"crash", "Keep that the compiler or the compiled model crashes">;
def error : J<"error", "<text>", "Keep that dlc refuses the model with an error that contains this text">;
def command : J<"command", "<cmd>", "Keep that this shell command succeeds; the model's path is appended">;
def output : JoinedOrSeparate<["-"], "o">, MetaVarName<"<path>">, HelpText<"The reduced model (default: <model>.reduced.onnx); its inputs go to <path>.inputs/">;
def budget : J<"budget", "<time>", "Stop after this time: 90s, 10m (default: 10m)">;
def timeout : J<"timeout", "<time>", "A test that takes longer does not count as failing (default: 60s)">;
def quiet : Flag<["-"], "q">, HelpText<"Only errors on standard error">;
def help : F<"help", "Print this text">;
def h : Flag<["-"], "h">, Alias<help>;
def dashes : Option<["--"], "", KIND_REMAINING_ARGS>, HelpText<"What follows is given to dlc">;
