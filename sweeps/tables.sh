#!/usr/bin/env bash
# Runs every study whose table is shown here, one after the other. Stopped, the same command goes on where it was.
#   sweeps/tables.sh CIFAR10 TINY_IMAGENET [more overrides of every study, as hydra/launcher=joblib]
# CIFAR10 is a folder with train/<class> and test/<class>, TINY_IMAGENET one with a folder for each class.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n 2,4p "$0" >&2
  exit 2
fi
real=(data=image_folder "data.root=$1" "query.root=$2")
more=("${@:3}")
study() { fmsteal -m "sweep=$1" "${@:2}" "${more[@]}"; }

# scikit-learn's digits
study quickstart
study quickstart sweep_id=quickstart_solve attack=solve thief=efficientnet_lite0
study quickstart sweep_id=quickstart_nothing attack=own_data_ceiling budget=0   # the digits leave no images over for own_data

# real images
study attacks "${real[@]}"
study attacks sweep_id=attacks_temperature attack=knockoff attack/loss=temperature "${real[@]}"
study attacks sweep_id=attacks_selection attack=knockoff attack/selection=kcenter_features,typiclust,herding "${real[@]}"
study attacks sweep_id=attacks_nothing attack=own_data,own_data_ceiling budget=0 "${real[@]}"
study fm_vs_resnet_mini "${real[@]}"
study fm_vs_resnet_mini sweep_id=fm_vs_resnet_mini_solve attack=solve \
  thief=efficientnet_lite0_96,efficientnet_lite2_96 "${real[@]}"
study fm_vs_resnet_mini sweep_id=fm_vs_resnet_mini_hybrid attack=solve_hybrid,knockoff budget=5k \
  victim=efficientnet_lite0_full thief=efficientnet_lite0_full "${real[@]}"
study fm_vs_resnet_mini sweep_id=fm_vs_resnet_mini_trunk attack=trunk_inference budget=1k \
  victim=efficientnet_lite0_full,resnet18_scratch thief=efficientnet_lite0_96 "${real[@]}"
for strength in defenses defenses/weak defenses/strong; do study $strength "${real[@]}"; done
study paper/mini_lp "${real[@]}"
study paper/mini_lp sweep_id=paper_mini_lp_resnet victim=resnet18_scratch recipe@victim.recipe=by_adaptation "${real[@]}"
study paper/mini_fft "${real[@]}"

# encoders
down=(data@evaluation.downstream.cifar10=image_folder "evaluation.downstream.cifar10.root=$1")
study encoders_mini "${real[@]}" "${down[@]}"
base=(hydra.sweeper.mixed=true attack.k=1)   # one factor at a time beside it
study encoders_ablation_mini "${real[@]}" "${down[@]}"
for factor in "attack.lam=1,100" "attack.distance=l1,cosine" "budget.queries=125,250" \
  "defense=feature_top_k defense.k=10,100" "defense=feature_rounding defense.decimals=1,2" \
  "defense=feature_noise defense.sigma=0.01,0.5" "thief.backbone.options.channels=[16,32,64,128]"; do
  read -ra words <<<"$factor"
  study encoders_ablation_mini "${base[@]}" "${words[@]}" "${real[@]}" "${down[@]}"
done
study encoders_ablation_mini "${base[@]}" query=same,procedural query.count=2000 \
  data=image_folder "data.root=$1" "${down[@]}"   # no query.root
trunk=(thief=encoder_efficientnet_lite2_probe "~attack.recipe")   # another trunk than either target's
study encoders_mini sweep_id=encoders_mini_others attack=cont_steal_once,rda,pretrain seed=0 "${real[@]}" "${down[@]}"
study encoders_mini sweep_id=encoders_mini_map attack=linear_map "${trunk[@]}" "${real[@]}" "${down[@]}"
study encoders_mini sweep_id=encoders_mini_nothing attack=public_encoder budget=0 seed=0 "${trunk[@]}" "${real[@]}" "${down[@]}"
for strength in encoder_defenses encoder_defenses/weak; do study $strength "${real[@]}" "${down[@]}"; done
study encoder_defenses sweep_id=encoder_defenses_nothing attack=public_encoder budget=0 defense=none "${real[@]}" "${down[@]}"
