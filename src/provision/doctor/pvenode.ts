import { SECTION_MARK, sectionsOf } from "../inside.js";
import { type Finding, onHost, warns } from "../preflight/finding.js";
import type { OwnContainer } from "../view.js";

/** What only a shell on the PVE node shows: files of containers as they are, modules, network cards. */
export type PveNodeFacts = {
  readonly name: string;
  readonly kernel: string;
  /** VMID → the lines of its file that are sections, devices, or LXC's own. */
  readonly files: ReadonlyMap<number, readonly { readonly line: number; readonly text: string }[]>;
  readonly loaded: readonly string[];
  /** Modules that are loaded when the host starts. */
  readonly atBoot: readonly string[];
  readonly cards: readonly Card[];
};

/** A physical port of a bridge, with its offloads as `ethtool -k` tells them. */
export type Card = {
  readonly port: string;
  readonly bridge: string;
  readonly offloads: ReadonlyMap<string, { readonly on: boolean; readonly fixed: boolean }>;
};

const MODULES = ["wireguard", "tun"] as const;

export function pveNodeScript(containers: readonly OwnContainer[]): string {
  const section = (name: string): string => `printf '%s %s\\n' '${SECTION_MARK}' ${name}`;
  return [
    "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    section("name"),
    "uname -n; uname -r",
    section("files"),
    // The cluster's own path: a container may be on another PVE node than this shell.
    ...containers.map(
      ({ node, vmid }) =>
        `grep -nE '^\\[|^lxc\\.|^dev[0-9]' /etc/pve/nodes/${node}/lxc/${vmid}.conf 2>/dev/null | sed 's/^/${vmid} /'`,
    ),
    section("loaded"),
    `for name in ${MODULES.join(" ")}; do [ -d /sys/module/$name ] && echo $name; done`,
    section("boot"),
    "cat /etc/modules /etc/modules-load.d/*.conf 2>/dev/null | sed 's/[#;].*//; s/[[:space:]]//g' | grep .",
    section("cards"),
    'for at in /sys/class/net/*/brport; do port=$(dirname "$at"); [ -e "$port/device" ] || continue; name=$(basename "$port")',
    '  printf \'card %s %s\\n\' "$name" "$(basename "$(readlink "$at/bridge")")"; timeout 3 ethtool -k "$name" 2>/dev/null | grep -E \'udp|generic-segmentation|rx-gro-list\'',
    "done",
    "exit 0",
    "",
  ].join("\n");
}

export function parsePveNode(text: string): PveNodeFacts {
  const sections = sectionsOf(text);
  const of = (name: string): readonly string[] => sections.get(name) ?? [];
  const files = new Map<number, { line: number; text: string }[]>();
  for (const one of of("files")) {
    const [, vmid = "", line = "", words = ""] = /^(\d+) (\d+):(.*)$/.exec(one) ?? [];
    files.set(Number(vmid), [...(files.get(Number(vmid)) ?? []), { line: Number(line), text: words }]);
  }
  const cards: { port: string; bridge: string; offloads: Map<string, { on: boolean; fixed: boolean }> }[] = [];
  for (const one of of("cards")) {
    const [, port, bridge = ""] = /^card (\S+) (\S*)$/.exec(one) ?? [];
    const [, name, is, fixed] = /^\s*([a-z0-9-]+): (on|off)( \[fixed\])?/.exec(one) ?? [];
    if (port !== undefined) cards.push({ port, bridge, offloads: new Map() });
    else if (name !== undefined) cards.at(-1)?.offloads.set(name, { on: is === "on", fixed: fixed !== undefined });
  }
  const [name = "", kernel = ""] = of("name");
  return { name, kernel, files, loaded: of("loaded"), atBoot: of("boot"), cards };
}

/** What is wrong with the PVE node itself, as far as exit nodes there feel it. */
export function pveNodeFindings(facts: PveNodeFacts, containers: readonly OwnContainer[]): Finding[] {
  return [
    ...containers.flatMap((container) => misplacedFindings(facts, container)),
    ...moduleFindings(facts, containers),
    ...facts.cards.flatMap((card) => cardFindings(card, facts.kernel)),
  ];
}

/** Appended to the file, lines land below the last section, and that is a snapshot's. */
function misplacedFindings({ files }: PveNodeFacts, { vmid, node }: OwnContainer): Finding[] {
  let section: string | undefined;
  const own = new Set<string>();
  const misplaced: { line: number; section: string }[] = [];
  for (const { line, text } of files.get(vmid) ?? []) {
    const opened = /^\[(.+)\]$/.exec(text)?.[1];
    if (opened !== undefined) section = opened;
    else if (section === undefined) own.add(text);
    // A snapshot of a container that has the line has it, too.
    else if (!own.has(text) && text.startsWith("lxc.")) misplaced.push({ line, section });
  }
  const [first] = misplaced;
  if (first === undefined) return [];
  const lines = misplaced.map(({ line }) => line);
  return [
    warns(
      "configuration",
      `${lines.length} lxc lines of container ${vmid} stand under [${first.section}], a snapshot`,
      {
        why: "they were appended to the file; there they count for nothing",
        advice: onHost(
          `sed -i '${lines.map((line) => `${line}d`).join("; ")}' /etc/pve/nodes/${node}/lxc/${vmid}.conf`,
          `pct set ${vmid} --dev0 /dev/net/tun,mode=0666    (if /dev/net/tun was meant)`,
        ),
      },
    ),
  ];
}

/** Whoever needs a module needs it before its container starts. */
function moduleFindings({ loaded, atBoot }: PveNodeFacts, containers: readonly OwnContainer[]): Finding[] {
  const needed = new Set(containers.map(({ config }) => (config.options.dev0 === undefined ? "wireguard" : "tun")));
  return MODULES.filter((name) => needed.has(name)).flatMap((name) => {
    const load = `echo ${name} > /etc/modules-load.d/${name}.conf`;
    if (!loaded.includes(name))
      return [
        warns("modules", `the module ${name} is not loaded on the host`, {
          why: "a container may not load it",
          advice: onHost(`modprobe ${name} && ${load}`),
        }),
      ];
    if (atBoot.includes(name)) return [];
    return [
      warns("modules", `the module ${name} is loaded now, and nothing loads it at the host's next start`, {
        why: "containers may start before anybody asks for it",
        advice: onHost(load),
      }),
    ];
  });
}

/** From there on, drivers were seen to segment UDP at a hundredth of the speed. */
const SLOW_KERNEL = 7;

export const isSlowKernel = (kernel: string | undefined): boolean => Number.parseInt(kernel ?? "", 10) >= SLOW_KERNEL;

export const slowAdvice = (port: string): string =>
  `${onHost(`ethtool -K ${port} tx-udp-segmentation off generic-segmentation-offload off`)}\n(if that helps, as a post-up line of the port in /etc/network/interfaces)`;

function cardFindings({ port, bridge, offloads }: Card, kernel: string): Finding[] {
  const of = (name: string): { on: boolean; fixed: boolean } | undefined => offloads.get(name);
  const slow = isSlowKernel(kernel) && of("tx-udp-segmentation")?.on === true;
  const forwarding = of("rx-udp-gro-forwarding");
  const names = `${port} (${bridge})`;
  return [
    ...(slow
      ? [
          warns(
            "network card",
            `${names} segments UDP itself, and with kernel ${kernel} some cards do it very slowly`,
            {
              why: "sending through the tunnel then takes a hundred times as long; if yours is fast, leave it",
              advice: slowAdvice(port),
            },
          ),
        ]
      : []),
    ...(forwarding !== undefined && !forwarding.on && !forwarding.fixed
      ? [
          warns("network card", `${names} could hand the tunnel's datagrams on in bundles, and does not`, {
            why: "receiving costs more processor time than it has to; nothing is broken, and it can be taken back with off",
            advice: onHost(`ethtool -K ${port} rx-udp-gro-forwarding on rx-gro-list off`),
          }),
        ]
      : []),
  ];
}
