package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattermost/mattermost/server/public/model"
	"github.com/mattermost/mattermost/server/public/plugin"
)

// settings are those of the System Console: see settings_schema in plugin.json.
type settings struct {
	DataFolder     string // of the index; empty: "recall" in the folder of the local file store
	Rules          string // HCL; empty: the built-in policy
	TakeDeletePost bool   // from all roles
}

// loadSettings asks the server for the settings.
func loadSettings(api plugin.API) (s settings, err error) {
	err = api.LoadPluginConfiguration(&s)
	if api.GetServerVersion() == "" { // a server that is gone would have answered without settings
		return s, errors.New("the Mattermost server does not answer")
	}
	if err != nil {
		return s, fmt.Errorf("settings of the plugin: %w", err)
	}
	return s, nil
}

// dataFolder returns the absolute path of the folder of the index, and makes it. It is outside of the plugin's own
// folder, which Mattermost deletes when it upgrades the plugin.
func (s settings) dataFolder(c *model.Config) (string, error) {
	folder := s.DataFolder
	if folder == "" {
		folder = filepath.Join(value(c.FileSettings.Directory), "recall")
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fmt.Errorf("data folder of the plugin: %w", err)
	}
	return folder, nil
}

// writeRules writes the rules to a file for recall-plugin, which reads it again when it changes. bundle is the folder
// of the plugin: the default of the setting in its manifest is the built-in policy.
func (s settings) writeRules(file, bundle string) error {
	rules := s.Rules
	if strings.TrimSpace(rules) == "" {
		var err error
		if rules, err = defaultRules(bundle); err != nil {
			return err
		}
	}
	if now, err := os.ReadFile(file); err == nil && string(now) == rules {
		return nil
	}
	return writeFile(file, []byte(rules))
}

func defaultRules(bundle string) (string, error) {
	text, err := os.ReadFile(filepath.Join(bundle, "plugin.json"))
	if err != nil {
		return "", err
	}
	var m model.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return "", fmt.Errorf("plugin.json: %w", err)
	}
	if m.SettingsSchema != nil {
		for _, setting := range m.SettingsSchema.Settings {
			if rules, ok := setting.Default.(string); ok && setting.Key == "Rules" {
				return rules, nil
			}
		}
	}
	return "", errors.New("plugin.json has no default of the setting Rules: build the bundle with make bundle")
}
