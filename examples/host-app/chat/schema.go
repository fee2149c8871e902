package chat

import (
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
)

// Schema makes the tables of the database.
//
//go:embed schema.sql
var Schema string

// schemaVersion is the version of Schema. It grows when the tables change; the first ones had none.
const schemaVersion = 2

// prepare makes the tables of a new database. It refuses one that an edition with other tables has made.
func prepare(db *sql.DB, path, schema string, version int) error {
	tx, err := db.Begin() // it excludes other servers that open the database
	if err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	var has, tables int
	err = tx.QueryRow("SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version").
		Scan(&has, &tables)
	if err == nil && tables > 0 && has != version {
		err = fmt.Errorf("another edition of this server made the database: its schema is %d, want %d; to start afresh, "+
			"delete the data folder and the index of the plugin", has, version)
	}
	if err == nil && tables == 0 {
		_, err = tx.Exec(schema + fmt.Sprintf("PRAGMA user_version = %d;", version))
	}
	if err == nil {
		err = tx.Commit()
	} else {
		err = errors.Join(err, tx.Rollback())
	}
	if err != nil {
		return fmt.Errorf("prepare %s: %w", path, err)
	}
	return nil
}
