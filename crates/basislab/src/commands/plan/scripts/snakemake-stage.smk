
rule stage_{{stage}}:
    input:
        {{before}},
    output:
        touch(MARKS + "/stage-{{stage}}-{shard}-of-{{tasks}}"),
    threads: {{cpus}}{{runtime}}
    shell:
        "{PROGRAM:q} work {PLAN:q} --stage {{stage}} --shard {wildcards.shard}/{{tasks}} --jobs {{cpus}} --threads {{cpus}}{{time_limit}}"

