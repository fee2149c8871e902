package index

const childEnv = "RECALL_INDEX_TEST_CHILD"

func runChild(path string) int { return 0 }
