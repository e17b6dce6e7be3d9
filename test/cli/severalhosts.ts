import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Call } from "../../src/cli/command.js";
import { writeConfig, writeCredentials } from "../../src/cli/config.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { joinCluster } from "../../src/lab/pve/cluster.js";
import { emptyConfig } from "../../src/lab/pve/guestconfig.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { writeIdentity } from "../../src/provision/identity.js";
import { systemClock } from "../../src/sys/clock.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { systemRandom } from "../../src/sys/random.js";
import { ModelRuntime } from "../lab/pvemodel.js";

/** Several Proxmox hosts in one process, each the lab's API over HTTPS with models of containers, and a config of them. */
export class SeveralHosts {
  readonly folder = mkdtempSync(join(tmpdir(), "exn-hosts-"));
  readonly config = join(this.folder, "config");
  readonly pves: Pve[] = [];
  readonly said: string[] = [];
  readonly #close: (() => Promise<void>)[] = [];

  /** `at` is where each listens: a port of its own on loopback unless said otherwise. */
  async open(
    names: readonly string[],
    options: {
      cluster?: boolean;
      at?: (host: number) => { address: string; port: number };
      url?: (host: number) => string;
    } = {},
  ): Promise<void> {
    const hosts: Record<string, object> = {};
    const secrets: Record<string, { secret: string }> = {};
    let shares: Pve | undefined;
    let access = { rootPassword: "" };
    for (const [i, name] of names.entries()) {
      const stateDir = join(this.folder, name);
      const storageDir = join(this.folder, `${name}-storage`);
      mkdirSync(storageDir);
      if (shares === undefined) access = await prepareAccess(stateDir, name, names);
      const certificate = await readCertificate(stateDir, name);
      const { fingerprint } = certificate;
      const runtime = new ModelRuntime();
      const place = { nodeName: name, stateDir, storageDir, runtime, fingerprint, address: "127.0.0.1" };
      const pve = openPve({ ...place, ...(shares === undefined ? {} : { shares }) });
      if (options.cluster) shares ??= pve;
      this.pves.push(pve);
      const at = options.at?.(i) ?? { address: "127.0.0.1", port: 0 };
      const server = await listenPve(pve, { certificate, ...at, delayMs: 0 });
      this.#close.push(() => closePve(pve, server));
      const { port } = server.address() as AddressInfo;
      const url = options.url?.(i) ?? `https://127.0.0.1:${port}`;
      hosts[name] = { url, fingerprint, login: "root@pam", defaults: {} };
      secrets[name] = { secret: access.rootPassword };
    }
    if (options.cluster) joinCluster("home", this.pves);
    await writeConfig(localFiles, this.config, { hosts: hosts as never });
    await writeCredentials(localFiles, this.config, { hosts: secrets });
  }

  /** A stopped container of ours; with an address, one that runs there. */
  async exitNode(host: number, vmid: number, name: string, more: { address?: string; hostKey?: string } = {}) {
    const pve = this.pves[host];
    assert.ok(pve);
    const { address, hostKey } = more;
    const identity = { id: `${host}-${vmid}`, name, given: {}, coordinator: true, ...(hostKey ? { hostKey } : {}) };
    const options = {
      hostname: name,
      tags: "exitnode",
      description: writeIdentity("", identity),
      ostype: "debian",
      unprivileged: "1",
      rootfs: `local:${vmid}/subvol-${vmid}-disk-0.subvol,size=4G`,
      net0: `name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:0${host}:${String(vmid % 100).padStart(2, "0")},ip=${address ?? "10.0.0.1"}/8`,
    };
    pve.guests.write(vmid, emptyConfig(options));
    if (address !== undefined) await pve.runtime.start(vmid, "", options);
  }

  call(args: readonly string[], options: Call["options"] = {}): Call {
    return {
      args,
      options,
      json: false,
      signal: new AbortController().signal,
      parts: {
        env: {},
        paths: pathsFrom({ EXITNODE_CONFIG: this.config, XDG_STATE_HOME: join(this.folder, "state") }, "."),
        exec: localExec,
        files: localFiles,
        clock: systemClock,
        random: systemRandom,
        say: (line) => this.said.push(line),
        interactive: false,
      },
    };
  }

  async close(): Promise<void> {
    for (const close of this.#close.splice(0)) await close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
