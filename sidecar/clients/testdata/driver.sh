# The driver of the tests for the bash client. Each line of its input is a path, a timeout and a request, which it
# answers with a line that begins with the status of recall_call.
source "$(dirname "$0")/../bash/recall.sh"
while read -r path RECALL_TIMEOUT json; do
  answer=$(recall_call "$path" "$json" 2>&1)
  echo "$? ${answer//$'\n'/ }"
done
