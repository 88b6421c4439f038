// The command line of dlc-check.
include "llvm/Option/OptParser.td"

class F<string name, string help> : Flag<["-", "--"], name>, HelpText<help>;
class J<string name, string metaVar, string help> : Joined<["-", "--"], name # "=">, MetaVarName<metaVar>, HelpText<help>;

def fp : J<"fp", "<mode>", "Numerics that laws are admitted in: strict, reassoc (default)">;
def json : F<"json", "Print the verdicts as one JSON object">;
def dump_groups : F<"dump-groups", "Print the groups in the input form of the proved checker (docs/proofs) and stop">;
def accept_elided : F<"accept-elided", "Constants of which the text leaves out data and name count as equal when their types are; without this they are refused">;
def dim : J<"dim", "<name>=<n>", "For ONNX models: give a symbolic dim a size">;
def shape : J<"shape", "<input>:<AxB>", "For ONNX models: give an input its shape">;
def help : F<"help", "Print this text">;
def h : Flag<["-"], "h">, Alias<help>;
