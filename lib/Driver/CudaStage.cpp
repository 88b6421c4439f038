// PTX and cubin of a model's kernels.
#include "Compilation.h"

#include "dlc/Driver/CudaModel.h"
#include "dlc/Target/CUDA/Ptxas.h"

using namespace dlc;
using llvm::Error;
using llvm::Expected;

Error dlc::compileCudaKernels(Compilation &c) {
  Expected<CudaModel> model =
      compileCuda(c.source, *c.cuda, c.name, c.options.strict);
  if (!model)
    return model.takeError();
  Expected<std::string> ptx = emitPtx(*model, *c.cuda);
  if (!ptx)
    return ptx.takeError();
  c.ptx = std::move(*ptx);
  if (Error error = dumpText(c, "03-kernels.ptx", c.ptx))
    return error;
  if (!c.options.wants(EmitKind::Cubin))
    return Error::success();
  Expected<PtxasResult> assembled = runPtxas(c.ptx, c.cuda->desc().sm);
  if (!assembled) {
    Error error = assembled.takeError();
    ExitCode code = error.isA<ToolUnavailableError>() ? ExitCode::Unavailable
                                                      : ExitCode::Internal;
    return makeError(code, llvm::toString(std::move(error)));
  }
  c.cubin = std::move(assembled->cubin);
  return Error::success();
}
