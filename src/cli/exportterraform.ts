import { userOf } from "../pve/permissions.js";
import { type ExportedContainer, nextCommand } from "./exportcontainer.js";

/** The container for Terraform and OpenTofu, as the provider bpg/proxmox takes it. */

type Value = string | number | boolean | readonly Value[] | { readonly as: string };
type Block = { readonly head: string; readonly body: readonly Line[] };
type Line = Block | readonly [name: string, value: Value] | undefined;

export function toTerraform(container: ExportedContainer): string {
  const { host, name, network, device } = container;
  const label = name.replaceAll("-", "_").replace(/^(?=\d)/, "_");
  const address = `proxmox_virtual_environment_container.${label}`;
  const get = (key: string): readonly [string, Value] | undefined => {
    const value = network.get(key);
    return value === undefined ? undefined : [ATTRIBUTES[key] ?? key, value];
  };
  const ipv6 = get("ip6");
  const isToken = userOf(host.login) !== host.login;
  const blocks: Block[] = [
    {
      head: "terraform",
      body: [
        ["required_version", ">= 1.5"],
        block("required_providers", [["proxmox", { as: '{\n      source = "bpg/proxmox"\n    }' }]]),
      ],
    },
    {
      head: 'variable "proxmox_secret"',
      body: [
        ["description", isToken ? `The secret of the API token ${host.login}` : `The password of ${host.login}`],
        ["type", { as: "string" }],
        ["sensitive", true],
      ],
    },
    {
      head: 'provider "proxmox"',
      body: [
        ["endpoint", host.url],
        ...(isToken
          ? [["api_token", { as: `"${escaped(host.login)}=\${var.proxmox_secret}"` }] as const]
          : [["username", host.login] as const, ["password", { as: "var.proxmox_secret" }] as const]),
      ],
    },
    ...(container.exists
      ? [
          {
            head: "import",
            body: [
              ["to", { as: address }],
              ["id", `${container.node}/${container.vmid}`],
            ] satisfies Line[],
          },
        ]
      : []),
    {
      head: `resource "proxmox_virtual_environment_container" "${label}"`,
      body: [
        ["node_name", container.node],
        container.vmid === undefined ? undefined : ["vm_id", container.vmid],
        ["description", container.description],
        ["tags", container.tags],
        container.pool === undefined ? undefined : ["pool_id", container.pool],
        ["unprivileged", true],
        ["start_on_boot", true],
        ["started", true],
        block("operating_system", [
          ["template_file_id", container.template],
          ["type", "debian"],
        ]),
        block("cpu", [["cores", container.cores]]),
        block("memory", [
          ["dedicated", container.memoryMib],
          ["swap", 0],
        ]),
        block("disk", [
          ["datastore_id", container.disk.storage],
          ["size", container.disk.gib],
        ]),
        block("features", [["nesting", true]]),
        block("network_interface", [get("name"), get("bridge"), vlan(network.get("tag"))]),
        block("initialization", [
          ["hostname", name],
          block("ip_config", [
            block("ipv4", [get("ip"), get("gw")]),
            ipv6 === undefined ? undefined : block("ipv6", [ipv6, get("gw6")]),
          ]),
          block("user_account", [["keys", [container.publicKey]]]),
        ]),
        device === undefined ? undefined : passthrough(device),
        // `create` writes the host key and the public address into the description. What only counts when the
        // container is made is not read back, and would have an imported one made anew.
        block("lifecycle", [
          [
            "ignore_changes",
            { as: container.exists ? "[description, operating_system, initialization]" : "[description]" },
          ],
        ]),
      ],
    },
  ];
  const opening = [
    `# The exit node "${name}" on ${host.name}. Set TF_VAR_proxmox_secret; nothing secret is in this file.`,
    "# A certificate that this machine does not know: add it to the trusted ones, or set PROXMOX_VE_INSECURE=true.",
    container.exists ? "" : `# Afterwards, for what is inside: ${nextCommand(container)}`,
  ].filter((line) => line !== "");
  return `${opening.join("\n")}\n\n${blocks.map((one) => rendered(one, "")).join("\n\n")}\n`;
}

/** Of net0's keys, those that are called otherwise. */
const ATTRIBUTES: Readonly<Record<string, string>> = { ip: "address", ip6: "address", gw: "gateway", gw6: "gateway" };

const block = (head: string, body: readonly Line[]): Block => ({ head, body });
const vlan = (tag: string | undefined): Line => (tag === undefined ? undefined : ["vlan_id", Number(tag)]);

/** "/dev/net/tun,mode=0666"; Proxmox itself may write "path=" before it. */
function passthrough(device: string): Block {
  const [path = "", ...options] = device.split(",");
  const mode = options.find((option) => option.startsWith("mode="))?.slice("mode=".length);
  return block("device_passthrough", [
    ["path", path.replace(/^path=/, "")],
    mode === undefined ? undefined : ["mode", mode],
  ]);
}

/** Laid out as `terraform fmt` does: neighbouring attributes have their signs below one another. */
function rendered({ head, body }: Block, indent: string): string {
  const lines = body.filter((line) => line !== undefined);
  const inner = `${indent}  `;
  const out: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    if (line === undefined) continue;
    if ("head" in line) {
      out.push(...(at === 0 ? [] : [""]), rendered(line, inner));
      continue;
    }
    const width = Math.max(...neighbours(lines, at).map(([name]) => name.length));
    out.push(`${inner}${line[0].padEnd(width)} = ${valueText(line[1])}`);
  }
  return `${indent}${head} {\n${out.join("\n")}\n${indent}}`;
}

function neighbours(lines: readonly (Block | readonly [string, Value])[], at: number): (readonly [string, Value])[] {
  const found: (readonly [string, Value])[] = [];
  let from = at;
  while (from > 0 && !("head" in (lines[from - 1] ?? {}))) from--;
  for (const line of lines.slice(from)) {
    if ("head" in line) break;
    found.push(line);
  }
  return found;
}

function valueText(value: Value): string {
  if (typeof value === "string") return `"${escaped(value)}"`;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return "as" in value ? value.as : `[${value.map(valueText).join(", ")}]`;
}

/** Inside a quoted string, ${ and %{ would begin a template. */
function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replaceAll("\n", "\\n")
    .replace(/([$%])\{/g, "$1$1{");
}
