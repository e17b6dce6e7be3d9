import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { jsonLog } from "../sys/log.js";
import { decodeRelayConfig, type RelayConfig } from "../wire/relayconfig.js";
import type { Call, Outcome } from "./command.js";
import { openRelay, relayPlaces } from "./relaydaemon.js";

/** Runs a relay until Ctrl-C. */
export async function relay(call: Call): Promise<Outcome> {
  const { parts, signal } = call;
  const running = await openRelay(relayPlaces(parts.env), await configOf(call), jsonLog("relay", "warn"));
  try {
    parts.say(`the relay listens on port ${running.port}; its key is ${running.publicKey}; Ctrl-C stops it`);
    if (!signal.aborted)
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  } finally {
    await running.close();
  }
  return { value: { stopped: true }, text: "the relay has stopped; devices look for another way" };
}

async function configOf({ parts, options }: Call): Promise<RelayConfig> {
  const { config, coordinatorKey, listen, stunPort, host, tlsCert, tlsKey, metricsPort } = options;
  if (typeof config === "string") {
    const text = await parts.files.readText(config);
    if (text === undefined) throw new Failure("relay-unconfigured", `there is no ${config}`);
    return decodeRelayConfig(tryJson(text), config);
  }
  if (!Array.isArray(coordinatorKey) || coordinatorKey.length === 0)
    throw new Failure("usage", "a relay serves the devices of a coordinator, and none was named", {
      advice: "exitnode relay --coordinator-key <the admission key that `exitnode coordinator status` shows>",
    });
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw new Failure("usage", "--tls-cert and --tls-key belong together, got only one of them");
  const wanted = {
    listen: listen === undefined ? {} : { port: Number(listen) },
    ...(stunPort === undefined ? {} : { stunPort: Number(stunPort) }),
    coordinatorKeys: coordinatorKey,
    hosts: Array.isArray(host) ? host : [],
    ...(tlsCert === undefined ? {} : { tls: { certificate: tlsCert, key: tlsKey } }),
    ...(metricsPort === undefined ? {} : { metrics: { port: Number(metricsPort) } }),
  };
  return decodeRelayConfig(wanted, "what was asked for", "usage");
}
