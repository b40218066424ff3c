"""The compiler's and the tuner's options by what they do here, and the values they take."""

from __future__ import annotations

PRECISION_MODES = {
    "force_fp16": "fp16",
    "allow_fp32_to_fp16": "fp16",
    "allow_mix_precision": "fp16",
    "allow_mix_precision_fp16": "fp16",
    "allow_mix_precision_bf16": "fp32",
    "force_fp32": "fp32",
    "cube_fp16in_fp32out": "fp32",
    "must_keep_origin_dtype": "fp32",
}
"""How a GPU computes for each `--precision_mode`: fp16, or fp32 where that is nearer to it."""

PRECISION_MODES_V2 = {
    "fp16": "fp16",
    "mixed_float16": "fp16",
    "mixed_bfloat16": "fp32",
    "origin": "fp32",
    "cube_fp16in_fp32out": "fp32",
    "cube_hif8": "fp32",
    "mixed_hif8": "fp32",
}

DYNAMIC = ("dynamic_batch_size", "dynamic_image_size", "dynamic_dims")
CHOICES = {
    "mode": ("0", "6"),
    "input_format": ("NCHW", "ND"),
    "precision_mode": tuple(PRECISION_MODES),
    "precision_mode_v2": tuple(PRECISION_MODES_V2),
    "output_type": ("FP32", "FP16"),
    "auto_tune_mode": ("RL", "GA", "RL,GA", "GA,RL"),
    "core_type": ("AiCore", "VectorCore"),
    "buffer_optimize": ("l2_optimize", "l1_optimize", "off_optimize"),
    "op_debug_level": ("0", "1", "2", "3", "4"),
    "op_compiler_cache_mode": ("enable", "disable", "force"),
    "op_select_implmode": (
        "high_performance",
        "high_precision",
        "high_performance_for_all",
        "high_precision_for_all",
    ),
    "progress_bar": ("on", "off"),
    "tune_optimization_level": ("O1", "O2"),
    "job_type": ("1", "2"),
}
"""Values that an option takes (E10001)."""

LOGS = ("null", "debug", "info", "warning", "error")
ONE_OR_ZERO = ("enable_small_channel", "disable_reuse_memory", "display_model_info")
TRUE_OR_FALSE = (
    "enable_single_stream",
    "enable_compress_weight",
    "save_original_model",
    "is_input_adjust_hw_layout",
    "is_output_adjust_hw_layout",
)

ACTED_ON = (
    "mode",
    "framework",
    "model",
    "output",
    "om",
    "input_format",
    "input_shape",
    "dynamic_batch_size",
    "dynamic_dims",
    "output_type",
    "insert_op_conf",
    "input_fp16_nodes",
)
REFUSED = {
    "dynamic_image_size": "make one file for each picture size instead",
    "input_shape_range": "write the free batch size as -1 in --input_shape instead",
    "out_nodes": "the output is the one of the model; export the model with another instead",
    "json": "it belongs to --mode 1 and 5, which are not emulated",
    "singleop": "single operators are not emulated",
}
"""Options that change what the file takes or gives, in ways that no other engine is made to."""

RECORDED = (
    "soc_version",
    "precision_mode",
    "precision_mode_v2",
)
WITHOUT_EFFECT = (
    "weight",
    "host_env_os",
    "host_env_cpu",
    "op_precision_mode",
    "op_select_implmode",
    "optypelist_for_implmode",
    "is_input_adjust_hw_layout",
    "is_output_adjust_hw_layout",
    "core_type",
    "aicore_num",
    "buffer_optimize",
    "fusion_switch_file",
    "enable_small_channel",
    "enable_compress_weight",
    "compress_weight_conf",
    "sparsity",
    "compression_optimize_conf",
    "disable_reuse_memory",
    "enable_single_stream",
    "enable_scope_fusion_passes",
    "ac_parallel_enable",
    "tiling_schedule_optimize",
    "keep_dtype",
    "modify_mixlist",
    "customize_dtypes",
    "log",
    "auto_tune_mode",
    "op_debug_level",
    "op_debug_config",
    "debug_dir",
    "op_compiler_cache_mode",
    "op_compiler_cache_dir",
    "mdl_bank_path",
    "op_bank_path",
    "check_report",
    "save_original_model",
    "display_model_info",
    "deterministic",
    "op_name_map",
    "dump_mode",
    "external_weight",
    "virtual_type",
    "status_check",
)
"""Options for the chip or for the compiler's own files: accepted and written down."""

TUNER_WITHOUT_EFFECT = (
    "device",
    "reload",
    "progress_bar",
    "tune_ops_file",
    "tune_optimization_level",
    "Fdeeper_opat",
    "Fnonhomo_split",
    "Fop_format",
    "ip",
    "port",
    "feature_deeper_opat",
)

KNOWN = (*ACTED_ON, *REFUSED, *RECORDED, *WITHOUT_EFFECT)
"""What `atc` knows."""

TUNER_KNOWN = (*KNOWN, *TUNER_WITHOUT_EFFECT, "job_type", "seconds")
"""What `aoe` knows; `seconds` is our own."""
