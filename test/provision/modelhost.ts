import { Failure } from "../../src/kit/failure.js";
import { type Ip, parseIp } from "../../src/kit/ip.js";
import type { CreateParams, GuestFirewall, PveHost, PveParams, Storage } from "../../src/pve/guests.js";
import { configReply } from "../../src/pve/replies.js";
import { parseUpid, type Upid, upidParts } from "../../src/pve/upid.js";
import { ModelContainer } from "./modelcontainer.js";

/** A little Proxmox: containers that exist or not, tasks with logs, storages, refusals in its own words. */
export class ModelProxmox {
  readonly containers = new Map<number, ModelContainer>();
  readonly templates = new Map<string, number>();
  readonly foreign = new Map<number, string>();
  readonly logs = new Map<Upid, string[]>();
  login = "root@pam";
  kernelWireguard = true;
  kernel = "6.14.11-4-pve";
  pveContainer = "6.1.10";
  skewMs = 0;
  firewall: GuestFirewall = { on: false, ipFilter: false, policyIn: "DROP", policyOut: "ACCEPT", rules: [] };
  storages: Storage[] = [
    storage("local", ["vztmpl", "backup"], 50),
    storage("local-lvm", ["rootdir", "images"], 100),
    storage("small", ["rootdir"], 1),
  ];
  bridges = ["vmbr0", "vmbr1"];
  privileges: ReadonlySet<string> | "all" = "all";
  givesAddresses = true;
  /** Looks that show only the IPv6 address of router advertisements before DHCP has answered. */
  ipv4After = 0;
  /** The answer to the next create is lost after it was done. */
  losesCreateAnswer = false;
  /** Another administrator takes the id just before the next create. */
  raced = false;
  #tasks = 0;

  client(): PveHost {
    const answer = <T>(value: T): Promise<T> => Promise.resolve(value);
    const none = (): never => {
      throw new Error("the model does not do that");
    };
    const writable = (vmid: number): ModelContainer => {
      const container = this.containers.get(vmid);
      if (container === undefined) throw new Failure("container-unknown", `there is no container ${vmid}`);
      return container;
    };
    return {
      version: () => answer({ version: "9.2.11", release: "9.2" }),
      nodes: () => answer([{ name: "pve1", online: true, fingerprint: undefined }]),
      nodeStatus: () =>
        answer({ kernel: this.kernel, pveVersion: "pve-manager/9.2.11", rootFreeBytes: 50 * 1024 ** 3 }),
      storages: () => answer(this.storages),
      bridges: () =>
        answer(
          this.bridges.map((name) => ({ name, active: true, cidr: undefined, gateway: undefined, vlanAware: false })),
        ),
      permissions: async (paths = []) =>
        new Map(paths.map((path) => [path, new Map(this.#held().map((priv) => [priv, { propagates: true }]))])),
      templates: async () =>
        [...this.templates].map(([volid, sizeBytes]) => ({ volid, sizeBytes, createdAtSeconds: 1 })),
      backups: none,
      pools: () => answer(["exitnode"]),
      packages: () => answer(new Map([["pve-container", this.pveContainer]])),
      skewMs: () => answer(this.skewMs),
      guestFirewall: () => answer(this.firewall),
      firewallOn: () => answer(true),
      failedTasks: () => answer([]),
      createPool: none,
      upload: async (_node, id, file) => {
        const volid = `${id}:vztmpl/${file.name}`;
        this.templates.set(volid, file.sizeBytes);
        return { volid, sizeBytes: file.sizeBytes, createdAtSeconds: 2 };
      },
      deleteVolume: async (_node, _storage, volid) => {
        this.templates.delete(volid);
        return this.#task("imgdel", 0, ["TASK OK"]);
      },
      waitTask: async (upid) => ({ warnings: 0, log: this.logs.get(upid) ?? [] }),
      taskLog: async (upid) => this.logs.get(upid) ?? [],
      tasks: async (_node, vmid) =>
        [...this.logs.keys()].filter((upid) => upidParts(upid).id === String(vmid)).reverse(),
      close: () => {},
      nextVmid: async () => {
        let vmid = 100;
        while (this.containers.has(vmid) || this.foreign.has(vmid)) vmid++;
        return vmid;
      },
      guests: async () => [
        ...[...this.containers].map(([vmid, container]) => ({
          vmid,
          name: container.hostname,
          node: "pve1",
          type: "lxc" as const,
          status: container.running ? "running" : "stopped",
          tags: container.tags,
          template: false,
        })),
        ...[...this.foreign].map(([vmid, name]) => ({
          vmid,
          name,
          node: "pve1",
          type: "qemu" as const,
          status: "running",
          tags: [],
          template: false,
        })),
      ],
      config: async (_node, vmid) => {
        const container = this.containers.get(vmid);
        return container === undefined ? undefined : configReply(container.rawConfig());
      },
      status: async (_node, vmid) => {
        const container = this.containers.get(vmid);
        return container === undefined ? undefined : container.running ? "running" : "stopped";
      },
      interfaces: async (_node, vmid) => {
        const container = this.containers.get(vmid);
        if (!container?.running) return [];
        const early = this.ipv4After-- > 0 ? parseIp("fd77::5") : container.address;
        const addresses: Ip[] = [parseIp("fe80::1"), ...(this.givesAddresses ? [early] : [])];
        return [{ name: "eth0", mac: "BC:24:11:00:00:01", addresses }];
      },
      create: async (_node, params) => this.#create(params),
      start: async (_node, vmid) => {
        const container = writable(vmid);
        if (container.running) throw new Failure("container-running", `CT ${vmid} already running`);
        container.start();
        return this.#task("vzstart", vmid, ["TASK OK"]);
      },
      stop: async (_node, vmid) => {
        writable(vmid).running = false;
        return this.#task("vzstop", vmid, ["TASK OK"]);
      },
      shutdown: async (_node, vmid) => {
        writable(vmid).running = false;
        return this.#task("vzshutdown", vmid, ["TASK OK"]);
      },
      destroy: async (_node, vmid) => {
        if (writable(vmid).running) throw new Failure("container-running", "container is running");
        this.containers.delete(vmid);
        return this.#task("vzdestroy", vmid, ["TASK OK"]);
      },
      setConfig: async (_node, vmid, changes) => this.#setConfig(writable(vmid), changes),
      canSnapshot: none,
      snapshots: none,
      snapshot: none,
      rollback: none,
      deleteSnapshot: none,
      backup: none,
      clone: async (_node, vmid, { newid, ...params }) => {
        const { net0, dev0, unprivileged, features, rootfs } = writable(vmid).options;
        const kept = { net0, dev0, unprivileged, features, rootfs };
        const { hostKey } = writable(vmid);
        const { full: _, storage: __, ...given } = params;
        this.containers.set(
          newid,
          new ModelContainer({ vmid: newid, ...kept, ...given }, this.kernelWireguard, { hostKey }),
        );
        return this.#task("vzclone", vmid, ["TASK OK"]);
      },
      resize: none,
      roles: none,
      setRole: none,
      users: none,
      createUser: none,
      tokens: none,
      createToken: none,
      deleteToken: none,
      acls: none,
      setAcl: none,
    };
  }

  #held(): string[] {
    if (this.privileges !== "all") return [...this.privileges];
    return [
      "Pool.Audit",
      "VM.Allocate",
      "VM.Audit",
      "VM.Clone",
      "VM.PowerMgmt",
      "VM.Config.CPU",
      "VM.Config.Memory",
      "VM.Config.Disk",
      "VM.Config.Network",
      "VM.Config.Options",
      "Datastore.AllocateSpace",
      "Datastore.AllocateTemplate",
      "Datastore.Audit",
      "SDN.Use",
    ];
  }

  #create(params: CreateParams): Upid {
    if (this.raced) {
      this.raced = false;
      this.foreign.set(params.vmid, "somebody-elses");
    }
    if (this.containers.has(params.vmid) || this.foreign.has(params.vmid))
      throw new Failure("vmid-taken", `CT ${params.vmid} already exists on node 'pve1'`);
    if (params.dev0 !== undefined && this.login !== "root@pam")
      throw new Failure("root-only", "configuring device passthrough is only allowed for root@pam");
    const container = new ModelContainer(params, this.kernelWireguard);
    this.containers.set(params.vmid, container);
    const upid = this.#task("vzcreate", params.vmid, [
      "Creating SSH host key 'ssh_host_rsa_key' - this may take some time ...",
      `done: SHA256:${"r".repeat(43)} root@x`,
      "Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...",
      `done: ${container.hostKey} root@x`,
      "TASK OK",
    ]);
    if (!this.losesCreateAnswer) return upid;
    this.losesCreateAnswer = false;
    throw new Failure("outcome-unknown", "POST /nodes/pve1/lxc was sent, but its answer got lost");
  }

  #setConfig(container: ModelContainer, changes: PveParams): void {
    const { digest, ...options } = changes;
    if (digest !== undefined && digest !== container.digest())
      throw new Failure("config-changed", "detected modified configuration");
    if (options.dev0 !== undefined && this.login !== "root@pam")
      throw new Failure("root-only", "configuring device passthrough is only allowed for root@pam");
    container.set(options);
  }

  #task(type: string, vmid: number, log: string[]): Upid {
    const count = (++this.#tasks).toString(16).toUpperCase().padStart(8, "0");
    const upid = parseUpid(`UPID:pve1:${count}:00000001:6B02E998:${type}:${vmid}:${this.login}:`);
    this.logs.set(upid, log);
    return upid;
  }
}

function storage(id: string, content: string[], freeGib: number): Storage {
  const availBytes = freeGib * 1024 ** 3;
  return { id, type: "dir", content, active: true, shared: false, availBytes, totalBytes: availBytes * 2 };
}
