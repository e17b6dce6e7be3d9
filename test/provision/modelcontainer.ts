import { createHash } from "node:crypto";
import { Failure } from "../../src/kit/failure.js";
import { type Ip, parseIp } from "../../src/kit/ip.js";
import { MASKED_UNITS } from "../../src/netconf/containerfiles.js";
import { STOCK_PACKAGES } from "../../src/provision/stockpackages.js";
import type { PveParams } from "../../src/pve/guests.js";
import type { Ran } from "../../src/sys/exec.js";
import type { Ssh } from "../../src/sys/ssh.js";
import type { RemoteFile } from "../../src/sys/sshpush.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";

const KEY = `${"A".repeat(43)}=`;
const JOIN_KEY = "/var/lib/exitnode/join.key";

/** A coordinator that is not in the container: who is in its network, and who may join. */
export class ModelNetwork {
  readonly devices: DeviceInfo[] = [];
  /** Join keys that nobody used yet. */
  readonly keys = new Set<string>();
  #made = 0;

  makeKey(): string {
    const key = `exnkey1-network-${++this.#made}`;
    this.keys.add(key);
    return key;
  }

  forget(id: string): void {
    const at = this.devices.findIndex((device) => device.id === id || device.name === id);
    if (at < 0) throw new Failure("device-unknown", `there is no device "${id}"`, { advice: "exitnode device list" });
    this.devices.splice(at, 1);
  }
}

/** A container as SSH shows it: files, units, kernel settings, an agent that joins with a key, a coordinator. */
export class ModelContainer {
  readonly options: Record<string, string>;
  readonly hostKey: string;
  address: Ip;
  readonly files = new Map<string, RemoteFile>();
  readonly units = new Map<string, string>();
  readonly sysctl = new Map<string, string>();
  readonly devices: DeviceInfo[];
  kernelWireguard: boolean;
  readonly #network: ModelNetwork | undefined;
  #keys = 0;
  #deviceId: string | undefined;
  /** The MAC address at which a container that is to take another's place begins. */
  #turn: string | undefined;
  running = false;
  tun = false;
  /** What Debian's own template would lack; ours lacks nothing. */
  readonly lacking = new Set<string>();
  system = "debian 13";
  node = "20.19.2";
  joined = false;
  loadedNft = "";
  refusal: string | undefined;
  /** What services in the Internet say it comes from. */
  egress: { readonly ipv4?: string; readonly ipv6?: string } = { ipv4: "203.0.113.10", ipv6: "2001:db8::10" };

  constructor(
    params: PveParams,
    kernelWireguard: boolean,
    more: { readonly hostKey?: string; readonly network?: ModelNetwork | undefined } = {},
  ) {
    const { vmid, ...options } = params;
    this.options = { swap: "512", memory: "512" };
    this.set(options);
    this.#network = more.network;
    this.devices = more.network?.devices ?? [];
    this.hostKey = more.hostKey ?? `SHA256:${String(vmid).padEnd(43, "k")}`;
    this.address = parseIp(`198.18.77.${Number(vmid) % 250}`);
    this.kernelWireguard = kernelWireguard;
  }

  get hostname(): string {
    return this.options.hostname ?? "";
  }
  get tags(): string[] {
    return (this.options.tags ?? "").split(";").filter((tag) => tag !== "");
  }

  set(options: PveParams): void {
    for (const [name, value] of Object.entries(options))
      if (value !== undefined) this.options[name] = value === true ? "1" : value === false ? "0" : String(value);
  }

  rawConfig(): Record<string, string> {
    return { ...this.options, description: `${this.options.description}\n`, digest: this.digest() };
  }

  digest(): string {
    return createHash("sha1").update(JSON.stringify(this.options)).digest("hex");
  }

  start(): void {
    this.running = true;
    this.tun = this.options.dev0 !== undefined;
    for (const unit of ["exitnode-agent", "exitnode-coordinator"]) if (this.units.has(unit)) this.#restart(unit);
  }

  /** Killed or shut down: what ran in it is offline. */
  stop(): void {
    this.running = false;
    this.#online(false);
  }

  #online(online: boolean): void {
    const at = this.devices.findIndex(({ id }) => id === this.#deviceId);
    const device = this.devices[at];
    if (device !== undefined) this.devices[at] = { ...device, online };
  }

  /** As it is, in another network or the same. */
  copy(network?: ModelNetwork): ModelContainer {
    const made = new ModelContainer({ vmid: 0, ...this.options }, this.kernelWireguard, {
      hostKey: this.hostKey,
      network,
    });
    made.load(this.saved());
    made.address = this.address;
    made.running = this.running;
    made.tun = this.tun;
    return made;
  }

  /** All that its disk holds: what a snapshot, a backup and a copy take along. */
  saved(): string {
    const files = [...this.files.values()].map((file) => ({
      ...file,
      content:
        typeof file.content === "string" ? file.content : { base64: Buffer.from(file.content).toString("base64") },
    }));
    const { joined, loadedNft } = this;
    const devices = this.#network === undefined ? this.devices : [];
    const [units, sysctl] = [[...this.units], [...this.sysctl]];
    return JSON.stringify({ files, units, sysctl, devices, deviceId: this.#deviceId, joined, loadedNft });
  }

  load(saved: string): void {
    const state = JSON.parse(saved);
    for (const file of state.files) {
      const content = typeof file.content === "string" ? file.content : Buffer.from(file.content.base64, "base64");
      this.files.set(file.path, { ...file, content });
    }
    for (const [unit, is] of state.units) this.units.set(unit, is);
    for (const [key, value] of state.sysctl) this.sysctl.set(key, value);
    if (this.#network === undefined) this.devices.push(...state.devices);
    this.#deviceId = state.deviceId;
    this.joined = state.joined;
    this.loadedNft = state.loadedNft;
  }

  open(): Ssh {
    return {
      run: async (argv, options = {}) => this.#run(argv, String(options.input ?? "")),
      push: async (files) => {
        for (const file of files) {
          if (file.owner.includes("exitnode") && !this.files.has("/etc/sysusers.d/exitnode.conf"))
            throw new Failure("command-failed", `chown: invalid user: '${file.owner}'`);
          this.files.set(file.path, file);
        }
      },
      close() {},
    };
  }

  #run(argv: readonly string[], input: string): Ran {
    const said = (stdout: string): Ran => ({ exitCode: 0, stdout, stderr: "" });
    const line = argv.join(" ");
    if (line === "sh -s" && input.includes("#exn-section#")) return said(this.#observed());
    if (line === "sh -s" && input.includes("echo systemd")) return said([...this.#stock(), "systemd"].join("\n"));
    if (argv[0] === "sh" && line.includes("provision/pending")) {
      const path = "/var/lib/exitnode-provision/pending";
      const due = new Set([...this.#text(path).split("\n"), ...input.split("\n")].filter((one) => one !== ""));
      this.files.set(path, { path, content: [...due].join("\n"), mode: 0o644, owner: "root:root" });
      return said("");
    }
    if (argv[0] === "apt-get" && argv.includes("install")) for (const name of argv) this.lacking.delete(name);
    if (line.startsWith("rm -f ")) this.files.delete(argv[2] ?? "");
    if (line === "nft -f /etc/nftables.conf") this.loadedNft = this.#text("/etc/nftables.conf");
    if (line.includes("systemd-sysctl"))
      for (const match of this.#text("/etc/sysctl.d/60-exitnode.conf").matchAll(/^-?(net\S+) = (\S+)$/gm))
        this.sysctl.set((match[1] ?? "").replaceAll(".", "/"), match[2] ?? "");
    const unit = /^systemctl (?:re)?start (exitnode-\w+)\.service$/.exec(line)?.[1];
    if (unit !== undefined) this.#restart(unit);
    if (line === "systemctl stop exitnode-coordinator.service") this.units.set("exitnode-coordinator", "inactive");
    if (line.includes("| base64 -w0")) return said(Buffer.from(this.#state()).toString("base64"));
    if (line.includes("base64 -d |")) this.#takeState(Buffer.from(input, "base64").toString());
    if (argv[0] === "systemd-run") this.#turn = /[0-9a-f]{2}(?::[0-9a-f]{2}){5}/.exec(line)?.[0];
    if (argv[0] === "node") return this.#call(argv[3] ?? "", argv[4] ?? "", input);
    return said("");
  }

  /** As STOCK_LOOK tells. */
  #stock(): string[] {
    const packages = STOCK_PACKAGES.filter((name) => !this.lacking.has(name));
    return [
      `system ${this.system}`,
      ...packages.map((name) => `package installed ${name} ${name === "nodejs" ? this.node : "1"}`),
      ...MASKED_UNITS.map((unit) => `masked ${unit}`),
    ];
  }

  /** What the agent's program says of itself. */
  get version(): string {
    const program = this.files.get("/opt/exitnode/agent.js")?.content ?? "";
    const text = typeof program === "string" ? program : new TextDecoder().decode(program);
    return /version (\S+)/.exec(text)?.[1] ?? "0";
  }

  /** Its network card is another one from here on: what waited for it begins. */
  readdress(address: Ip, mac: string): void {
    this.address = address;
    if (mac.toLowerCase() !== this.#turn) return;
    this.#turn = undefined;
    for (const unit of ["exitnode-coordinator", "exitnode-agent"]) this.#restart(unit);
  }

  /** Below /var/lib. */
  #state(): string {
    const devices = this.#network === undefined ? this.devices : [];
    return JSON.stringify({ joined: this.joined, deviceId: this.#deviceId, devices });
  }

  #takeState(text: string): void {
    const { joined, deviceId, devices } = JSON.parse(text);
    this.joined = joined;
    this.#deviceId = deviceId;
    if (this.#network === undefined) this.devices.splice(0, this.devices.length, ...devices);
  }

  #restart(unit: string): void {
    const config = unit === "exitnode-agent" ? "/etc/exitnode/agent.yaml" : "/etc/exitnode/coordinator.yaml";
    this.units.set(unit, this.files.has(config) ? "active" : "inactive");
    if (unit !== "exitnode-agent" || !this.files.has(config)) return;
    if (this.version === "broken") {
      this.units.set(unit, "activating");
      this.#online(false);
      return;
    }
    if (this.joined) {
      this.#online(true);
      return;
    }
    const key = this.#text(JOIN_KEY).trim();
    const used = this.#network === undefined ? key === "used" : !this.#network.keys.delete(key);
    this.refusal = key === "" ? "join-key-required" : used ? "join-key-used" : undefined;
    if (this.refusal !== undefined) return;
    this.joined = true;
    this.files.delete(JOIN_KEY);
    this.#deviceId = `${this.hostname}-${this.devices.length}`;
    this.devices.push({
      id: this.#deviceId,
      name: this.hostname,
      role: "exit-node",
      publicKey: KEY,
      addresses: [parseIp("100.64.0.1")],
      routes: ["0.0.0.0/0", "::/0"],
      endpoints: [],
      online: true,
      agentVersion: "0",
      createdAtMs: 0,
      ...{ tags: [], ephemeral: false },
    });
  }

  #call(method: string, path: string, input: string): Ran {
    if (this.units.get("exitnode-coordinator") !== "active") return { exitCode: 1, stdout: "", stderr: "no answer" };
    const answer = (value: unknown): Ran => ({ exitCode: 0, stdout: JSON.stringify(value), stderr: "" });
    if (method === "GET" && path.endsWith("/devices")) return answer({ devices: this.devices });
    if (method === "POST" && path.endsWith("/keys")) {
      const info = { id: `k${++this.#keys}`, reusable: false, createdAtMs: 0, expiresAtMs: 1, state: "valid" };
      return answer({ ...info, role: JSON.parse(input).role, joinKey: `exnkey1-${this.#keys}` });
    }
    return { exitCode: 1, stdout: "", stderr: `the model does not know ${method} ${path}` };
  }

  #text(path: string): string {
    return String(this.files.get(path)?.content ?? "");
  }

  #observed(): string {
    const section = (name: string, ...lines: string[]): string[] => [`#exn-section# ${name}`, ...lines];
    const present = [...this.files.values()];
    const sum = (file: RemoteFile): string => createHash("sha256").update(file.content).digest("hex");
    const agentRuns = this.units.get("exitnode-agent") === "active";
    const status = {
      version: this.version,
      name: this.hostname,
      role: "exit-node",
      addresses: this.joined ? ["100.64.0.1"] : [],
      dataPlane: "kernel",
      interface: "exn0",
      listenPort: 51_820,
      coordinator: this.joined
        ? { connected: true, mapSeq: 1 }
        : { connected: false, ...(this.refusal === undefined ? {} : { refusal: this.refusal, reason: this.refusal }) },
      peers: [],
      warnings: [],
    };
    const coordinator = {
      version: "0",
      publicKey: KEY,
      tlsFingerprint: "AA",
      urls: [],
      devices: this.devices.length,
      online: 1,
      startedAtMs: 0,
    };
    return [
      ...section("files", ...present.map((file) => `${file.mode.toString(8)} ${file.owner} ${file.path}`)),
      ...section("sums", ...present.map((file) => `${sum(file)}  ${file.path}`)),
      ...section(
        "units",
        ...["exitnode-agent", "exitnode-coordinator"].map((unit) => `${unit} ${this.units.get(unit) ?? "inactive"}`),
      ),
      ...section("system", "running"),
      ...section("sysctl", ...[...this.sysctl].map(([key, value]) => `/proc/sys/${key} ${value}`)),
      ...section("nft", this.loadedNft === this.#text("/etc/nftables.conf") ? "same" : "other"),
      ...section("wireguard", ...(this.kernelWireguard ? ["yes"] : [])),
      ...section("tun", ...(this.tun ? ["yes"] : [])),
      ...section("resolvers", "198.18.77.1"),
      ...section("pending", ...this.#text("/var/lib/exitnode-provision/pending").split("\n")),
      ...section("stock", ...this.#stock()),
      ...section("joinkey", ...(this.files.has(JOIN_KEY) ? ["yes"] : [])),
      ...section("map", ...(this.joined ? ["yes"] : [])),
      ...section("outside", JSON.stringify(this.egress)),
      ...section("agent", ...(agentRuns ? [JSON.stringify(status)] : [])),
      ...section(
        "coordinator",
        ...(this.units.get("exitnode-coordinator") === "active" ? [JSON.stringify(coordinator)] : []),
      ),
    ].join("\n");
  }
}
