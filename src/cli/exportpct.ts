import { shellWord } from "../kit/shell.js";
import type { RenderedFile } from "../netconf/containerfiles.js";
import { type ExportedContainer, networkOption, nextCommand } from "./exportcontainer.js";

/** The container as a script for the shell of its PVE node; `files` are those that hold nothing secret. */
export function toPct(container: ExportedContainer, files: readonly RenderedFile[]): string {
  const options: [string, string][] = [
    ["hostname", container.name],
    ["unprivileged", "1"],
    ["cores", String(container.cores)],
    ["memory", String(container.memoryMib)],
    ["swap", "0"],
    ["rootfs", `${container.disk.storage}:${container.disk.gib}`],
    ["net0", networkOption(container)],
    ["features", "nesting=1"],
    ["onboot", "1"],
    ["tags", container.tags.join(";")],
    ...(container.pool === undefined ? [] : [["pool", container.pool] as [string, string]]),
    ...(container.device === undefined ? [] : [["dev0", container.device] as [string, string]]),
    ["description", container.description],
  ];
  const vmid = container.vmid === undefined ? '"$(pvesh get /cluster/nextid)"' : String(container.vmid);
  const lines = [
    "#!/bin/sh",
    `# The exit node "${container.name}": run this as root on the PVE node ${container.node} (${container.host.name}).`,
    ...(container.exists ? [`# Container ${container.vmid} is there now; this makes it anew where it is not.`] : []),
    `# Afterwards, for the agent and its registration: ${nextCommand(container)}`,
    "set -eu",
    `vmid=${vmid}`,
    "work=$(mktemp -d)",
    `trap 'rm -rf "$work"' EXIT`,
    `printf '%s\\n' ${shellWord(container.publicKey)} >"$work/keys"`,
    "",
    `pct create "$vmid" ${shellWord(container.template)} \\`,
    ...options.map(([name, value]) => `  --${name} ${shellWord(value)} \\`),
    '  --ssh-public-keys "$work/keys"',
    'pct start "$vmid"',
    "# systemd answers some seconds after the start.",
    'for second in $(seq 30); do pct exec "$vmid" -- systemctl show-environment >/dev/null 2>&1 && break; sleep 1; done',
    "",
    "# put MODE GROUP PATH: what is read goes there, root's.",
    "put() {",
    '  cat >"$work/file"',
    '  pct exec "$vmid" -- mkdir -p "$(dirname "$3")"',
    '  pct push "$vmid" "$work/file" "$3" --perms "$1" --user root --group "$2"',
    "}",
    ...files.flatMap(({ path, mode, group, content }) => [
      "",
      `put 0${mode.toString(8)} ${group} ${shellWord(path)} <<'${END}'`,
      content.replace(/\n$/, ""),
      END,
      ...(path.startsWith("/etc/sysusers.d/") ? [`pct exec "$vmid" -- systemd-sysusers ${shellWord(path)}`] : []),
    ]),
    "",
    'pct exec "$vmid" -- systemctl daemon-reload',
    'pct exec "$vmid" -- /usr/lib/systemd/systemd-sysctl',
    'pct exec "$vmid" -- systemctl enable --now nftables.service',
  ];
  return `${lines.join("\n")}\n`;
}

/** No line of a file of ours is this word. */
const END = "EXITNODE_END";
