import { join } from "node:path";
import { Agent } from "./agent/agent.js";
import { KernelWireGuard, probeKernelWireGuard } from "./agent/kernelwireguard.js";
import { clearNetwork } from "./agent/network.js";
import { parseFile } from "./cli/config.js";
import { Engine } from "./engine/engine.js";
import { asFailure, Failure } from "./kit/failure.js";
import { DESCRIPTION_BYTES_MAX } from "./nat/portmap/igd.js";
import { HTTP_TIMEOUT_MS } from "./nat/portmap/service.js";
import { systemClock } from "./sys/clock.js";
import { forgetFlows } from "./sys/conntrack.js";
import { openDatagramSocket } from "./sys/dgram.js";
import { localExec } from "./sys/exec.js";
import { fetchText } from "./sys/fetchtext.js";
import { localFiles } from "./sys/files.js";
import { settleHeap } from "./sys/heap.js";
import { askLine, serveLines } from "./sys/localsocket.js";
import { jsonLog } from "./sys/log.js";
import { localNameService } from "./sys/nameservice.js";
import { readNetInfo } from "./sys/netinfo.js";
import { notifySystemd, startWatchdog } from "./sys/notify.js";
import { plainHttp } from "./sys/plainhttp.js";
import { openProbeSocket } from "./sys/probesocket.js";
import { systemRandom } from "./sys/random.js";
import { lookUp } from "./sys/resolve.js";
import { dialStream } from "./sys/streamdial.js";
import { findUser } from "./sys/users.js";
import { dialWebSocket } from "./sys/websocket.js";
import { version } from "./version.js";
import { type AgentConfig, agentConfig, DEVICE_FILES } from "./wire/agentconfig.js";
import { agentAnswer } from "./wire/agentsocket.js";
import { parseWith } from "./wire/schema.js";

/**
 * The agent as a program. Without arguments it is the daemon; `status` prints what the running daemon says as JSON;
 * `clean` puts the machine's routing back.
 */

const folders = {
  etc: process.env.EXITNODE_ETC ?? "/etc/exitnode",
  var: process.env.EXITNODE_VAR ?? "/var/lib/exitnode",
  run: process.env.EXITNODE_RUN ?? "/run/exitnode",
};
/** The agent's user and group, and root. */
const SOCKET_MODE = 0o660;
const ASK_TIMEOUT_MS = 10_000;
const USER = "exitnode";
/** By then the coordinator has been greeted and the first map applied. */
const SETTLE_AFTER_MS = 4_000;

async function readConfig(): Promise<AgentConfig> {
  const path = join(folders.etc, DEVICE_FILES.config);
  const text = await localFiles.readText(path);
  if (text === undefined)
    throw new Failure("config-missing", `${path} is missing`, { advice: "exitnode up --join KEY" });
  return parseFile(path, text, agentConfig);
}

async function runDaemon(): Promise<void> {
  const config = await readConfig();
  const log = jsonLog("exitnode-agent", process.env.EXITNODE_LOG ?? "info");
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stop.abort());
  const uid = process.getuid?.();
  const agent = new Agent(
    {
      files: localFiles,
      exec: localExec,
      clock: systemClock,
      random: systemRandom,
      log,
      dial: dialWebSocket,
      fetchText,
      netInfo: readNetInfo,
      nameService: localNameService,
      dialRelay: dialStream,
      lookUp,
      openSocket: openDatagramSocket,
      fetchHttp: (request, from) =>
        plainHttp(request, from, { timeoutMs: HTTP_TIMEOUT_MS, bytesMax: DESCRIPTION_BYTES_MAX }),
      uid: uid === 0 ? undefined : uid,
      version,
      folders,
      probeKernel: () => probeKernelWireGuard(localExec),
      forgetFlows: (addresses) => {
        try {
          forgetFlows(addresses);
        } catch (error) {
          log.warn("flows were not forgotten", { reason: asFailure(error).message });
        }
      },
      openBackend: async (kind, failed) =>
        kind === "kernel"
          ? new KernelWireGuard(localExec, config.interface, systemClock, openProbeSocket)
          : new Engine({ workerUrl: new URL(import.meta.url), onFailed: failed }),
      ready: () => {
        void notifySystemd("READY=1");
        setTimeout(settleHeap, SETTLE_AFTER_MS).unref();
      },
    },
    config,
  );
  const closeSocket = await serveLines(join(folders.run, DEVICE_FILES.socket), SOCKET_MODE, (value) =>
    agent.answer(value),
  );
  startWatchdog(() => true, stop.signal);
  try {
    await agent.run(stop.signal);
  } finally {
    await notifySystemd("STOPPING=1");
    await closeSocket();
  }
}

async function printStatus(): Promise<void> {
  const path = join(folders.run, DEVICE_FILES.socket);
  const raw = await askLine(path, { do: "status" }, ASK_TIMEOUT_MS);
  if (raw === undefined) throw new Failure("agent-not-running", `no agent listens at ${path}`);
  const answer = parseWith(agentAnswer, raw, "the agent's answer");
  if (!answer.ok) throw new Failure(answer.error.code, answer.error.message);
  process.stdout.write(`${JSON.stringify(answer.value)}\n`);
}

async function clean(): Promise<void> {
  const config = await readConfig();
  const user = await findUser(localFiles, USER);
  await clearNetwork({ exec: localExec, files: localFiles, folders, uid: user?.uid }, config);
}

export async function agentDaemon(command: string | undefined): Promise<number> {
  try {
    if (command === undefined) await runDaemon();
    else if (command === "status") await printStatus();
    else if (command === "clean") await clean();
    else throw new Failure("usage", `expected no argument, status or clean, got "${command}"`);
    return 0;
  } catch (error) {
    const { code, message, advice } = asFailure(error);
    process.stderr.write(`exitnode-agent: ${message} [${code}]\n${advice === undefined ? "" : `  → ${advice}\n`}`);
    return code === "usage" ? 2 : 1;
  }
}
