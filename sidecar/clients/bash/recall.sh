# The client of recall-sidecar for bash 5 and curl 7.88 or later. Source it:
#
#   source recall.sh
#   RECALL_SOCKET=/run/recall/recall.sock
#   recall_call status '{"tenant": "acme", "ids": ["m1"]}'
#
# recall_call PATH JSON makes the call POST /v1/PATH and prints its response. A refusal by the rules is a result, not an
# error. A call that gets no answer, or any error but a 4xx, is repeated until its timeout; 408 and 429 are repeated as
# well. That is safe: the sidecar applies nothing twice, and a recall without a recall_id gets one before the first try.
#
# It returns 0 if there is a result. Otherwise the last error is on stderr, and it returns 1 if the sidecar refused the
# call, 2 if the timeout ended, and 3 if it could not be made.
#
#   RECALL_SOCKET      path of a unix socket
#   RECALL_URL         instead of it, such as http://127.0.0.1:8181
#   RECALL_TOKEN_FILE  file whose first line is the token; read for each attempt
#   RECALL_TIMEOUT     seconds until a call is given up, default 30; for steps/take set more than its wait

recall_call() {
  local path=$1 json=$2 url=${RECALL_URL:-http://localhost} timeout=${RECALL_TIMEOUT:-30}
  local -a options=(--disable --silent --noproxy '*' --header 'Content-Type: application/json')
  if [[ -n ${RECALL_SOCKET:-} ]]; then
    options+=(--unix-socket "$RECALL_SOCKET")
  elif [[ -z ${RECALL_URL:-} ]]; then
    echo 'recall: set RECALL_SOCKET or RECALL_URL' >&2
    return 3
  fi
  options+=(--header "Idempotency-Key: $(</proc/sys/kernel/random/uuid)") # fills the recall_id of a recall
  local -i delay=50 end=$((${EPOCHREALTIME/[.,]/} / 1000 + timeout * 1000)) left pause # ms
  local answer status after error
  while :; do
    left=$((end - ${EPOCHREALTIME/[.,]/} / 1000))
    answer=$(_recall_attempt) || return 3
    error=${answer##*$'\n'} answer=${answer%$'\n'*}
    error=${error%.} # it ends with a dot since the shell removes newlines at the end
    read -r status after <<<"${answer##*$'\n'}"
    answer=${answer%$'\n'*}
    case $error:$status in
      :200)
        printf '%s\n' "$answer"
        return 0
        ;;
      :408 | :429) ;;
      :4??)
        printf '%s\n' "$answer" >&2
        return 1
        ;;
    esac
    [[ $after =~ ^[0-9]+$ ]] || after=0
    pause=$((after * 1000 + delay / 2 + RANDOM % (delay / 2 + 1)))
    if ((${EPOCHREALTIME/[.,]/} / 1000 + pause > end)); then
      printf '%s\n' "${error:-$answer}" >&2
      return 2
    fi
    sleep "$(_recall_seconds $pause)"
    delay=$((delay * 2 > 2000 ? 2000 : delay * 2))
  done
}

_recall_seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }

# _recall_attempt makes one attempt of recall_call. It prints the response, a line with its status and Retry-After, and
# one that says why there is no response, or not all of it. Other users can see arguments: the token is in none.
_recall_attempt() {
  local token=''
  if [[ -n ${RECALL_TOKEN_FILE:-} ]]; then
    read -r token <"$RECALL_TOKEN_FILE" || [[ -n $token ]] || return
    token="header = \"Authorization: Bearer $token\""
  fi
  curl "${options[@]}" --max-time "$(_recall_seconds $((left > 0 ? left : 1)))" --config <(printf '%s' "$token") \
    --data-binary @- --write-out '\n%{http_code} %header{retry-after}\n%{errormsg}.' "${url%/}/v1/$path" <<<"$json"
  return 0
}
