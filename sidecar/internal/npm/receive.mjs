// A receiver of webhooks that verifies them with the package standardwebhooks. Its arguments are the secrets it knows.
// It prints its port. It answers 401 with the error of the package, or 200 with the outcome that the reason of the
// recall names. It ends with its standard input.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const known = process.argv.slice(2).map((secret) => new Webhook(secret));

function verify(body, headers) {
  let error;
  for (const webhook of known) {
    try {
      return webhook.verify(body, headers);
    } catch (e) {
      error = e;
    }
  }
  throw error;
}

const outcomes = { "没有这条消息": "nothing_to_do" };

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    const { type, data } = verify(Buffer.concat(chunks), request.headers);
    response.end(JSON.stringify({ outcome: outcomes[data.reason] ?? `${type} ${data.reason}` }));
  } catch (error) {
    response.statusCode = 401;
    response.end(`${error.name}: ${error.message}`);
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
