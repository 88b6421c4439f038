/* Asserts the offsets that include/dlc/runtime.h documents: generated code is
 * built from the document, not from the header, so the two must agree on every
 * target. */
#include "dlc/external.h"
#include "dlc/runtime.h"

#define AT(type, field, offset)                                                \
  _Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)

AT(dlc_frame, status, 0);
AT(dlc_frame, scratch, 8);
AT(dlc_frame, scratch_stride, 16);
AT(dlc_frame, buffers, 24);
AT(dlc_frame, symbols, 32);
SIZE(dlc_frame, 40);

AT(dlc_dim, kind, 0);
AT(dlc_dim, value, 8);
AT(dlc_dim, text, 16);
SIZE(dlc_dim, 24);

AT(dlc_tensor_info, name, 0);
AT(dlc_tensor_info, type_code, 8);
AT(dlc_tensor_info, type_bits, 16);
AT(dlc_tensor_info, rank, 24);
AT(dlc_tensor_info, dims, 32);
SIZE(dlc_tensor_info, 40);

AT(dlc_symbol_info, name, 0);
AT(dlc_symbol_info, min, 8);
AT(dlc_symbol_info, max, 16);
AT(dlc_symbol_info, typical, 24);
SIZE(dlc_symbol_info, 32);

AT(dlc_state_info, tensor, 0);
AT(dlc_state_info, output, 40);
AT(dlc_state_info, axis, 48);
AT(dlc_state_info, length, 56);
AT(dlc_state_info, capacity, 64);
AT(dlc_state_info, rows_kind, 72);
AT(dlc_state_info, rows_value, 80);
SIZE(dlc_state_info, 88);

AT(dlc_info, struct_size, 0);
AT(dlc_info, abi_version, 8);
AT(dlc_info, name, 16);
AT(dlc_info, dlc_version, 24);
AT(dlc_info, triple, 32);
AT(dlc_info, cpu, 40);
AT(dlc_info, features, 48);
AT(dlc_info, flags, 56);
AT(dlc_info, precision, 64);
AT(dlc_info, fp_mode, 72);
AT(dlc_info, laws, 80);
AT(dlc_info, device_type, 88);
AT(dlc_info, num_kernels, 96);
AT(dlc_info, weights_bytes, 104);
AT(dlc_info, num_inputs, 112);
AT(dlc_info, num_outputs, 120);
AT(dlc_info, num_symbols, 128);
AT(dlc_info, inputs, 136);
AT(dlc_info, outputs, 144);
AT(dlc_info, symbols, 152);
AT(dlc_info, num_states, 160);
AT(dlc_info, states, 168);
SIZE(dlc_info, 176);

AT(dlc_exec, inputs, 0);
AT(dlc_exec, outputs, 8);
AT(dlc_exec, symbols, 16);
AT(dlc_exec, workspace, 24);
AT(dlc_exec, weights, 32);
AT(dlc_exec, num_workers, 40);
AT(dlc_exec, parallel_for, 48);
AT(dlc_exec, pf_ctx, 56);
AT(dlc_exec, status, 64);
AT(dlc_exec, site, 72);
AT(dlc_exec, alloc, 80);
AT(dlc_exec, free, 88);
AT(dlc_exec, alloc_ctx, 96);
AT(dlc_exec, output_alloc, 104);
AT(dlc_exec, stream, 112);
AT(dlc_exec, device_state, 120);
AT(dlc_exec, run, 128);
AT(dlc_exec, sizes, 136);
SIZE(dlc_exec, 144);

AT(dlc_model, abi_version, 0);
AT(dlc_model, info, 8);
AT(dlc_model, input_dims, 16);
AT(dlc_model, output_dims, 24);
AT(dlc_model, plan, 32);
AT(dlc_model, execute, 40);
AT(dlc_model, weights_size, 48);
AT(dlc_model, weights_checksum, 56);
AT(dlc_model, weights, 64);
AT(dlc_model, weights_file, 72);
AT(dlc_model, device_image, 80);
AT(dlc_model, num_sizes, 88);
AT(dlc_model, external, 96);
SIZE(dlc_model, 104);

AT(dlc_external_tensor, type, 0);
AT(dlc_external_tensor, rank, 8);
AT(dlc_external_tensor, dims, 16);
AT(dlc_external_tensor, strides, 48);
SIZE(dlc_external_tensor, 80);

AT(dlc_external_problem, kind, 0);
AT(dlc_external_problem, src, 8);
AT(dlc_external_problem, weights, 88);
AT(dlc_external_problem, dst, 168);
AT(dlc_external_problem, stride, 248);
AT(dlc_external_problem, dilation, 264);
AT(dlc_external_problem, pad_before, 280);
AT(dlc_external_problem, pad_after, 296);
SIZE(dlc_external_problem, 312);

AT(dlc_external_site, kernel, 0);
AT(dlc_external_site, problems, 8);
AT(dlc_external_site, num_problems, 16);
AT(dlc_external_site, constant_weights, 24);
AT(dlc_external_site, state, 32);
SIZE(dlc_external_site, 40);

AT(dlc_external_image, backend, 0);
AT(dlc_external_image, sites, 8);
AT(dlc_external_image, num_sites, 16);
SIZE(dlc_external_image, 24);

AT(dlc_external_backend, open, 0);
AT(dlc_external_backend, close, 8);
SIZE(dlc_external_backend, 16);

AT(dlc_device_module, kind, 0);
AT(dlc_device_module, arch, 8);
AT(dlc_device_module, exact, 16);
AT(dlc_device_module, bytes, 24);
AT(dlc_device_module, size, 32);
SIZE(dlc_device_module, 40);

AT(dlc_device_function, symbol, 0);
AT(dlc_device_function, kernel, 8);
AT(dlc_device_function, block_threads, 16);
AT(dlc_device_function, num_params, 24);
AT(dlc_device_function, shared_bytes, 32);
AT(dlc_device_function, call, 40);
SIZE(dlc_device_function, 48);

AT(dlc_device_product, left, 0);
AT(dlc_device_product, batch, 24);
AT(dlc_device_product, left_strides, 56);
AT(dlc_device_product, right_strides, 80);
AT(dlc_device_product, factor_type, 104);
AT(dlc_device_product, tf32, 120);
SIZE(dlc_device_product, 128);

AT(dlc_device_convolution, filter, 0);
AT(dlc_device_convolution, workspace_bytes, 32);
AT(dlc_device_convolution, size, 40);
AT(dlc_device_convolution, filters, 72);
AT(dlc_device_convolution, taps, 80);
AT(dlc_device_convolution, places, 96);
AT(dlc_device_convolution, pads, 112);
AT(dlc_device_convolution, steps, 128);
AT(dlc_device_convolution, dilations, 144);
AT(dlc_device_convolution, type, 160);
AT(dlc_device_convolution, tf32, 168);
SIZE(dlc_device_convolution, 176);

AT(dlc_device_call, kind, 0);
AT(dlc_device_call, as, 8);
SIZE(dlc_device_call, 184);

AT(dlc_device_library, open, 0);
AT(dlc_device_library, close, 8);
AT(dlc_device_library, version, 16);
AT(dlc_device_library, prepare, 24);
AT(dlc_device_library, run, 32);
SIZE(dlc_device_library, 40);

AT(dlc_device_image, backend, 0);
AT(dlc_device_image, modules, 8);
AT(dlc_device_image, num_modules, 16);
AT(dlc_device_image, functions, 24);
AT(dlc_device_image, num_functions, 32);
AT(dlc_device_image, sites, 40);
AT(dlc_device_image, num_sites, 48);
AT(dlc_device_image, libraries, 56);
SIZE(dlc_device_image, 72);

AT(dlc_device_backend, device_type, 0);
AT(dlc_device_backend, create, 8);
AT(dlc_device_backend, destroy, 16);
AT(dlc_device_backend, run, 24);
SIZE(dlc_device_backend, 32);

SIZE(dlc_weights_header, 64);
SIZE(DLTensor, 48);
