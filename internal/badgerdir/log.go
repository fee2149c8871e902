package badgerdir

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// badgerLog passes Badger's messages to hclog. Badger's informational messages help only developers of this package, so
// they become debug messages.
type badgerLog struct{ log hclog.Logger }

func (l badgerLog) Errorf(format string, args ...any)   { l.say(hclog.Error, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.say(hclog.Warn, format, args) }
func (l badgerLog) Infof(format string, args ...any)    { l.say(hclog.Debug, format, args) }
func (l badgerLog) Debugf(format string, args ...any)   { l.say(hclog.Trace, format, args) }

func (l badgerLog) say(level hclog.Level, format string, args []any) {
	if l.log.GetLevel() > level {
		return
	}
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	l.log.Log(level, "database", "says", text)
}
