"""Representative jobs, and the hash that each has in its key. One that changes makes every such job be stolen again.

Raise `fmsteal.identity.keys.KEY_VERSION`, or the version of the class that means something else, and say so in the
changelog; then write the new hashes: ``python -m tests.identity.golden``.
"""

from __future__ import annotations

from tests.support.composing import hash_now

GOLDEN = {
    "": "d59c68e8079a82fb",
    "recipe@recipes.probe=probe_adamw": "e8ae65f7be021319",
    "budget=1k seed=3": "a175f8230fa1c4c3",
    "victim=resnet10t thief=resnet18_scratch defense=top_k defense.k=1": "38213c2484e8b8ed",
    "victim=efficientnet_lite0_96 thief.adaptation=full attack/loss=hard": "0b27b664a34ccc1d",
    "data=cifar10 query=cifar100 victim=resnet50 thief=vit_b16 budget=10k": "04030773cb4e7b77",
    "data=image_folder data.root=/not/there/birds query=noise thief.backbone.weights=/not/there": "240611636452d10d",
    "attack=activethief_dfal_kcenter query=procedural": "1597f744196377a1",
    "attack=copycat attack.balance=false defense=hard_label": "e86548bd3bdcfa9b",
    "attack=dfme budget.queries=100000": "2444caf17481c2d2",
    "attack=knockoff_adaptive query.count=5000": "0527515a595c954a",
    "attack=mixmatch budget.queries=500 defense=rounding": "daf9a462359b1122",
    "attack=jbda_tr budget=5k query=task": "88dcb8ff7615e742",
    "task=embed": "4276d097cfbbbf1a",
    "task=embed attack=rda victim=simclr_resnet10 defense=feature_noise": "e654158eea39890a",
    "task=embed attack=direct attack/loss=infonce victim=clip_rn50 seed=2": "7232dd3cb0fe13fc",
    "query=imagenet query.root=/not/there query.count=20000": "87c2409112f6bb71",
    "query=webdataset query.root=/not/there/shards-*.tar data=huggingface data.dataset=lab/birds": "a38bae225a56ce3a",
    "trainer=gpu trainer.lightning.precision=bf16-mixed +trainer.lightning.gradient_clip_val=1": "36f9529a0d8734e3",
}  # fmt: skip


if __name__ == "__main__":
    for job in GOLDEN:
        print(f'    "{job}": "{hash_now(job)}",')
