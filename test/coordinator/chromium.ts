import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";

/** A real browser without a window, driven by the Chrome DevTools protocol. */

const PROGRAMS = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/google-chrome"];

/** The browser that is there: EXITNODE_CHROMIUM names another one. Undefined: none. */
export const chromiumProgram = (): string | undefined =>
  [process.env.EXITNODE_CHROMIUM ?? "", ...PROGRAMS].find((path) => path !== "" && existsSync(path));

type Answer = { id?: number; result?: Record<string, unknown>; error?: { message: string } } & Partial<Told>;
type Told = { readonly method: string; readonly params: { readonly loaderId?: string; readonly name?: string } };

export class Chromium {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<
    number,
    { resolve: (value: Record<string, unknown>) => void; reject: (error: Error) => void }
  >();
  readonly #events = new Set<(told: Told) => void>();
  #last = 0;
  #session = "";
  /** The loader of the page that is there. */
  #loaded = "";

  private constructor(child: ChildProcess, folder: string, socket: WebSocket) {
    this.#child = child;
    this.#folder = folder;
    this.#socket = socket;
    socket.on("message", (data) => {
      const { id, result, error, method, params = {} } = JSON.parse(String(data)) as Answer;
      if (method !== undefined) for (const event of this.#events) event({ method, params });
      const asked = id === undefined ? undefined : this.#waiting.get(id);
      if (id === undefined || asked === undefined) return;
      this.#waiting.delete(id);
      if (error === undefined) asked.resolve(result ?? {});
      else asked.reject(new Error(error.message));
    });
  }

  static async start(program: string): Promise<Chromium> {
    const folder = await mkdtemp(join(tmpdir(), "exn-ac-chromium-"));
    const child = spawn(
      program,
      [
        ...["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions"],
        // The test's own certificate, made a moment ago.
        "--ignore-certificate-errors",
        ...["--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank"],
      ],
      // A group of its own: it is many processes.
      { stdio: ["ignore", "ignore", "pipe"], detached: true },
    );
    const kill = (): void => killGroup(child);
    process.once("exit", kill);
    child.once("exit", () => process.off("exit", kill));
    const url = await new Promise<string>((resolve, reject) => {
      let said = "";
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        const found = /(ws:\/\/\S+)\s/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.once("exit", () => reject(new Error(`the browser ended: ${said}`)));
    });
    const socket = new WebSocket(url, { perMessageDeflate: false });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    const browser = new Chromium(child, folder, socket);
    const { targetId } = await browser.#ask("Target.createTarget", { url: "about:blank", width: 900, height: 700 });
    const { sessionId } = await browser.#ask("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = String(sessionId);
    await browser.ask("Page.enable");
    await browser.ask("Page.setLifecycleEventsEnabled", { enabled: true });
    const { frameTree } = await browser.ask("Page.getFrameTree");
    browser.#loaded = (frameTree as { frame: { loaderId: string } }).frame.loaderId;
    await browser.ask("WebAuthn.enable");
    await browser.ask("WebAuthn.addVirtualAuthenticator", {
      options: {
        ...{ protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true },
        ...{ isUserVerified: true, automaticPresenceSimulation: true },
      },
    });
    return browser;
  }

  /** To the page. */
  ask(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.#ask(method, params, this.#session);
  }

  /** Fulfilled when the page has loaded. */
  async open(url: string): Promise<void> {
    await this.loads(() => this.ask("Page.navigate", { url }));
  }

  /** Does something that leads to another page, and waits until that one, and not the one before, has loaded. */
  async loads(act: () => Promise<unknown>): Promise<void> {
    const loaded = new Promise<void>((resolve) => {
      const event = ({ method, params: { name, loaderId = "" } }: Told): void => {
        if (method !== "Page.lifecycleEvent" || name !== "load" || loaderId === this.#loaded) return;
        this.#loaded = loaderId;
        this.#events.delete(event);
        resolve();
      };
      this.#events.add(event);
    });
    await act();
    await loaded;
  }

  /** The value of an expression in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
      userGesture: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value?: unknown }).value;
  }

  click(selector: string): Promise<unknown> {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
  }

  async text(): Promise<string> {
    return String(await this.evaluate("document.body.innerText"));
  }

  /** PNG. */
  async picture(): Promise<Buffer> {
    return Buffer.from(String((await this.ask("Page.captureScreenshot", { format: "png" })).data), "base64");
  }

  async close(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#socket.terminate();
    killGroup(this.#child);
    await gone;
    // The last of its processes may still be writing.
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 50 });
  }

  #ask(method: string, params: object, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) }));
    });
  }
}

function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
