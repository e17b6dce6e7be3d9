import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { askingMachine } from "./askingmachine.js";
import { openBench } from "./bench.js";
import { Chromium, chromiumProgram } from "./chromium.js";
import { freePort } from "./freeport.js";

const program = chromiumProgram();
/** EXITNODE_PICTURES: a folder that gets a picture of each page, for a person to look at. */
const pictures = process.env.EXITNODE_PICTURES;

test("in a real browser: an invitation makes a passkey, the passkey signs in, lets a machine in and shuts it out", {
  timeout: 300_000,
  ...(program === undefined ? { skip: "no browser is installed here: apt install chromium-headless-shell" } : {}),
}, async () => {
  const port = await freePort();
  const site = `https://localhost:${port}`;
  const bench = await openBench({ want: { listen: { address: "127.0.0.1", port }, urls: [site] } });
  const browser = await Chromium.start(program ?? "");
  const look = async (name: string): Promise<void> => {
    if (pictures !== undefined) await writeFile(join(pictures, `${name}.png`), await browser.picture());
  };
  try {
    await bench.call("POST", "/api/v1/users", { login: "anna", role: "owner" });
    const { url } = (await bench.call("POST", "/api/v1/users/anna/invite")).body as { url: string };
    await browser.open(url);
    await look("invite");
    await browser.loads(() => browser.click("button[data-passkey]"));
    assert.match(await browser.text(), /My devices[\s\S]*None yet/);
    await browser.loads(() => browser.click("form[action='/sign-out'] button"));
    assert.match(await browser.text(), /Sign in/);

    const machine = askingMachine(bench, "laptop");
    const { url: confirm, code } = await machine.shown;
    await browser.open(confirm);
    await look("sign-in");
    await browser.loads(() => browser.click("button[data-passkey]"));
    const shown = await browser.text();
    assert.ok(shown.includes("laptop wants to join") && shown.includes(code), shown);
    await look("confirm");
    await browser.loads(() => browser.click("button[value=confirm]"));
    assert.match(await browser.text(), /laptop is in/);
    await machine.done;

    await browser.open(`${site}/`);
    assert.match(await browser.text(), /laptop\s+100\.64\./);
    await look("devices");
    await browser.evaluate("window.confirm = () => true");
    await browser.loads(() => browser.click("form[data-sure] button"));
    assert.doesNotMatch(await browser.text(), /laptop/);
    // What the policy forbids does not run: a script that somebody has smuggled in.
    const ran = await browser.evaluate(
      "(() => { const s = document.createElement('script'); s.textContent = 'window.smuggled = 1'; document.body.append(s); return window.smuggled; })()",
    );
    assert.equal(ran, undefined);
  } finally {
    await browser.close();
    await bench.close();
  }
});
