export CUDA_DEVICE_MAX_CONNECTIONS=1

CLUSTER_ARGS=(
  --colocate
  --actor-num-nodes 1
  --actor-num-gpus-per-node 4
)

ROLLOUT_ARGS=(
  --advantage-estimator grpo
  --rollout-batch-size 32
  --n-samples-per-prompt 8
  --num-steps-per-rollout 1
  --rollout-max-response-len 8192
  --rollout-max-context-len 9216
)

PARALLEL_ARGS=(
  --tensor-model-parallel-size 4
  --pipeline-model-parallel-size 1
  --context-parallel-size 1
  --sequence-parallel
)

BATCH_ARGS=(
  --use-dynamic-batch-size
  --max-tokens-per-gpu 9216
  --balance-data
  --global-batch-size 256
  --seq-length 9216
)

PRECISION_ARGS=(
  --bf16
  --accumulate-allreduce-grads-in-fp32
  --attention-backend flash
  --attention-dropout 0
  --hidden-dropout 0
)

OPTIMIZER_ARGS=(
  --optimizer adam
  --use-distributed-optimizer
)

SGLANG_ARGS=(
  --rollout-num-gpus-per-engine 2
  --sglang-mem-fraction-static 0.55
)

PLAN_ARGS=("${CLUSTER_ARGS[@]}" "${ROLLOUT_ARGS[@]}" "${PARALLEL_ARGS[@]}" "${BATCH_ARGS[@]}" "${PRECISION_ARGS[@]}" "${OPTIMIZER_ARGS[@]}" "${SGLANG_ARGS[@]}")

# ray job submit --address http://127.0.0.1:8265 \
#   --runtime-env-json '{"env_vars": {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}}' \
#   -- python3 train.py "${MODEL_ARGS[@]}" "${PLAN_ARGS[@]}" ...
