import assert from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod";
import { deviceName, parseWith, role } from "../../src/wire/schema.js";

const request = z.object({ name: deviceName, role, tags: z.array(deviceName), secret: z.string().min(16) });
const good = { name: "laptop", role: "device", tags: ["backup"], secret: "x".repeat(16) };

for (const { wrong, says } of [
  {
    wrong: { name: "Lap_Top" },
    says: 'name: must be 1 to 63 of a-z, 0-9 and -, not starting or ending with -, got "Lap_Top"',
  },
  { wrong: { role: "boss" }, says: 'role: expected one of exit-node, device, got "boss"' },
  {
    wrong: { tags: ["backup", "a b"] },
    says: 'tags.1: must be 1 to 63 of a-z, 0-9 and -, not starting or ending with -, got "a b"',
  },
  { wrong: { name: 7 }, says: "name: invalid input: expected string, received number" },
  { wrong: { role: undefined }, says: "role: expected one of exit-node, device" },
])
  test(`what is refused is told as "${says}"`, () => {
    assert.throws(() => parseWith(request, { ...good, ...wrong }, "the body"), {
      code: "message-invalid",
      message: `the body is invalid: ${says}`,
    });
  });

test("a secret that is refused is not quoted, and a long word is cut", () => {
  assert.throws(
    () => parseWith(request, { ...good, secret: "hunter2" }, "the body"),
    (error: unknown) => error instanceof Error && /secret: /.test(error.message) && !/hunter2/.test(error.message),
  );
  assert.throws(
    () => parseWith(request, { ...good, name: "A".repeat(5_000) }, "the body"),
    (error: unknown) => error instanceof Error && error.message.length < 300,
  );
});
