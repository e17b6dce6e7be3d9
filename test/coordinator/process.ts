import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import YAML from "yaml";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import type { Key } from "../../src/kit/key.js";
import { sha256 } from "../../src/kit/sha256.js";
import type { CoordinatorStatus, CreatedKey, DeviceInfo, KeyRequest } from "../../src/wire/adminapi.js";
import type { StoreConfig } from "../../src/wire/coordinatorconfig.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import { ADMIN_TOKEN, request } from "./bench.js";

export type ProcessWant = {
  /** Its folders are made below. */
  readonly folder: string;
  readonly port: number;
  readonly store: StoreConfig;
};

const PROGRAM = join(import.meta.dirname, "../../src/coordinatormain.js");

/** A coordinator as a process of its own, which can be killed. */
export class CoordinatorProcess {
  readonly port: number;
  publicKey: Key = "" as Key;
  readonly #want: ProcessWant;
  #child: ChildProcess | undefined;
  #said = "";

  private constructor(want: ProcessWant) {
    this.#want = want;
    this.port = want.port;
  }

  static async start(want: ProcessWant): Promise<CoordinatorProcess> {
    const process = new CoordinatorProcess(want);
    process.configure([process.url]);
    await process.start();
    return process;
  }

  /** At its next start it says that it is reached there. */
  configure(urls: readonly string[]): void {
    const { folder, port, store } = this.#want;
    mkdirSync(folder, { recursive: true });
    const config = {
      listen: { address: "127.0.0.1", port },
      urls,
      adminTokenSha256: toHex(sha256(utf8(ADMIN_TOKEN))),
      relay: { enabled: false },
      store,
    };
    writeFileSync(join(folder, "coordinator.yaml"), YAML.stringify(config));
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** Fulfilled when it listens. */
  async start(): Promise<void> {
    const { folder } = this.#want;
    const places = { EXITNODE_ETC: folder, EXITNODE_VAR: folder, EXITNODE_RUN: folder };
    // A test that is killed takes it along.
    const program = [process.execPath, "--enable-source-maps", PROGRAM];
    const child = spawn("setpriv", ["--pdeathsig", "KILL", ...program], {
      env: { PATH: process.env.PATH ?? "", EXITNODE_LOG: process.env.EXITNODE_LOG ?? "info", ...places },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const kill = (): void => void child.kill("SIGKILL");
    process.once("exit", kill);
    child.once("exit", () => process.off("exit", kill));
    await new Promise<void>((resolve, reject) => {
      let said = "";
      const hear = (text: string): void => {
        said += text;
        this.#said = (this.#said + text).slice(-16_384);
        if (said.includes("coordinator listens")) resolve();
      };
      child.stdout?.setEncoding("utf8").on("data", hear);
      child.stderr?.setEncoding("utf8").on("data", hear);
      child.once("exit", (code, signal) => reject(new Error(`the coordinator ended (${code ?? signal}): ${said}`)));
    });
    this.publicKey = ((await this.call("GET", "/status")) as CoordinatorStatus).publicKey as Key;
  }

  /** The last of what it logged. */
  get said(): string {
    return this.#said;
  }

  /** With SIGKILL, unless told otherwise; fulfilled when it is gone. */
  async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  /** It does nothing, and keeps its connections, until `goesOn`. */
  stands(): void {
    this.#child?.kill("SIGSTOP");
  }

  goesOn(): void {
    this.#child?.kill("SIGCONT");
  }

  /** The answer's value; whatever is no success is thrown. */
  async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await request(this.port, method, `/api/v1${path}`, body, ADMIN_TOKEN);
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async key(wanted: KeyRequest): Promise<string> {
    return decodeJoinKey(((await this.call("POST", "/keys", wanted)) as CreatedKey).joinKey).secret;
  }

  async devices(): Promise<DeviceInfo[]> {
    return ((await this.call("GET", "/devices")) as { devices: DeviceInfo[] }).devices;
  }
}
