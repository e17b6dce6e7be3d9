import { splitOption } from "./guestconfig.js";
import { mustRunProgram } from "./program.js";
import { type RootFile, readRootFile, writeRootFiles } from "./rootfs.js";

/** What Proxmox writes into a new Debian-like container, and again at every start what follows its configuration. */

const BEGIN = "# --- BEGIN PVE ---";
const END = "# --- END PVE ---";

export type Resolver = { readonly nameservers: readonly string[]; readonly search: string | undefined };

/** Files that follow the configuration: written at create and at each start. */
export async function configureRoot(root: string, options: Record<string, string>, host: Resolver): Promise<void> {
  const hostname = options.hostname ?? "localhost";
  const [short = hostname] = hostname.split(".");
  const address = staticAddress(options) ?? "127.0.1.1";
  const names = short === hostname ? hostname : `${hostname} ${short}`;
  const hosts = (await readRootFile(root, "/etc/hosts")) ?? LOCAL_HOSTS;
  await writeRootFiles(root, [
    file("/etc/hostname", `${short}\n`),
    file(
      "/etc/hosts",
      withSection(hosts.includes("localhost") ? hosts : `${LOCAL_HOSTS}${hosts}`, `${address} ${names}\n`),
    ),
    file("/etc/resolv.conf", withSection("", resolvConf(options, host))),
    file("/etc/network/interfaces", renderInterfaces(options)),
  ]);
}

/** Files written once: a new identity, and who may log in. */
export async function personalizeRoot(
  root: string,
  secrets: { sshKeys: string | undefined; password: string | undefined },
  keys: readonly RootFile[],
): Promise<void> {
  const files: RootFile[] = [
    file("/etc/machine-id", ""),
    file("/etc/systemd/system-preset/00-pve.preset", PRESET),
    ...keys,
  ];
  if (secrets.sshKeys !== undefined) {
    const path = "/root/.ssh/authorized_keys";
    const old = (await readRootFile(root, path)) ?? "";
    files.push({ path, content: withSection(old, `${secrets.sshKeys.trim()}\n`), mode: 0o600 });
  }
  if (secrets.password !== undefined) {
    const shadow = (await readRootFile(root, "/etc/shadow")) ?? "root:*:19000:0:99999:7:::\n";
    const hash = await crypt(secrets.password);
    files.push({ path: "/etc/shadow", content: shadow.replace(/^root:[^:]*:/m, () => `root:${hash}:`), mode: 0o640 });
  }
  await writeRootFiles(root, files);
}

const file = (path: string, content: string): RootFile => ({ path, content, mode: 0o644 });

const LOCAL_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

const PRESET =
  "# Added by PVE at create-time for first-boot configuration.\ndisable systemd-networkd.service\ndisable getty@.service\n";

/** SHA-512 crypt, as in /etc/shadow; an already crypted password is taken as it is. */
async function crypt(password: string): Promise<string> {
  if (/^\$(?:5|6|y)\$\S+\$\S+$/.test(password)) return password;
  return (
    await mustRunProgram(["/usr/bin/openssl", "passwd", "-6", "-stdin"], { input: `${password}\n` })
  ).stdout.trim();
}

function staticAddress(options: Record<string, string>): string | undefined {
  for (const net of networksOf(options)) if (net.ip?.includes("/")) return net.ip.split("/")[0];
  return undefined;
}

/** net0, net1, … taken apart, in order. */
function networksOf(options: Record<string, string>): Record<string, string>[] {
  return Object.keys(options)
    .filter((key) => /^net\d+$/.test(key))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .map((key) => splitOption(options[key] ?? ""));
}

function resolvConf(options: Record<string, string>, host: Resolver): string {
  const own = options.nameserver?.split(/[\s,;]+/).filter((word) => word !== "");
  const search = options.searchdomain ?? host.search;
  const nameservers = own === undefined || own.length === 0 ? host.nameservers : own;
  return `${search === undefined ? "" : `search ${search}\n`}${nameservers.map((ip) => `nameserver ${ip}\n`).join("")}`;
}

/** /etc/network/interfaces as Proxmox writes it for Debian. */
export function renderInterfaces(options: Record<string, string>): string {
  const stanzas = networksOf(options).map((net) => {
    const name = net.name ?? "eth0";
    const four = family(name, "inet", net.ip, net.gw);
    const six = family(name, "inet6", net.ip6, net.gw6);
    const body = `${four}${six}`;
    return `auto ${name}\n${body === "" ? `iface ${name} inet manual\n` : body}`;
  });
  return ["auto lo\niface lo inet loopback\n", ...stanzas].join("\n");
}

function family(name: string, inet: "inet" | "inet6", ip: string | undefined, gateway: string | undefined): string {
  if (ip === undefined || ip === "manual") return ip === undefined ? "" : `iface ${name} ${inet} manual\n`;
  if (ip === "dhcp" || ip === "auto") return `iface ${name} ${inet} ${ip}\n`;
  return `iface ${name} ${inet} static\n\taddress ${ip}\n${gateway === undefined ? "" : `\tgateway ${gateway}\n`}`;
}

/** Puts the lines between Proxmox's markers, in place of what stood there. */
export function withSection(text: string, lines: string): string {
  const section = lines === "" ? "" : `${BEGIN}\n${lines}${END}\n`;
  const kept = text
    .replace(new RegExp(`${BEGIN}\n[\\s\\S]*?${END}\n`), "")
    .replace(/\n+$/, "\n")
    .replace(/^\n$/, "");
  return `${kept}${section}`;
}
