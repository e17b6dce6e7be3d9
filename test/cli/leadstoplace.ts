import { once } from "node:events";
import { createServer as createTcpServer } from "node:net";
import { createServer } from "node:tls";
import { leadsTo } from "../../src/cli/leadsto.js";
import { systemClock } from "../../src/sys/clock.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";

/**
 * A coordinator's certificate on port 443 of the first address and of the second, silence on the third; prints which
 * addresses are seen to lead to it, and how often the silent one was asked, as JSON.
 */
const [open = "", home = "", silent = "", nobody = ""] = process.argv.slice(2);
const nowhere = {
  read: async () => undefined,
  readText: async () => undefined,
  write: async () => {},
  remove: async () => {},
  list: async () => [],
};
const signed = await keepTlsIdentity(nowhere, { key: "key", certificate: "certificate" }, [open], Date.now());
const own = signed.fingerprint;
for (const address of [open, home]) {
  const server = createServer({ key: signed.key, cert: signed.certificate }, (socket) => socket.on("error", () => {}));
  await once(server.listen(443, address), "listening");
}
let asked = 0;
await once(createTcpServer(() => asked++).listen(443, silent), "listening");
const ask = (): ReturnType<typeof leadsTo> => leadsTo(systemClock, new AbortController().signal);
const answers = [await ask()(open, own), await ask()(open, "AA"), await ask()(home, own), await ask()(nobody, own)];
const again = ask();
answers.push(await again(silent, own), await again(silent, own), await ask()("nobody.invalid", own));
process.stdout.write(JSON.stringify({ answers, asked }));
process.exit();
